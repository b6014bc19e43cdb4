"""Shared by the fixture scripts: how arrays become JSON, and how inputs are drawn."""

import json
import pathlib

import numpy as np


def tensor(array):
    """Encodes an array as {"dtype", "shape", "data"}: data is flat and row-major, floats are rounded to float32."""
    array = np.asarray(array)
    if array.dtype == np.bool_:
        dtype, data = "bool", [int(x) for x in array.ravel()]
    elif np.issubdtype(array.dtype, np.unsignedinteger):
        dtype, data = "u32", [int(x) for x in array.ravel()]
    elif np.issubdtype(array.dtype, np.integer):
        dtype, data = "i32", [int(x) for x in array.ravel()]
    else:
        dtype, data = "f32", [number(x) for x in array.ravel()]
    return {"dtype": dtype, "shape": list(array.shape), "data": data}


def number(value):
    """Rounds to float32 and keeps the shortest decimal that reads back the same (the sign of zero is lost)."""
    rounded = np.float32(value)
    if not np.isfinite(rounded):
        raise ValueError(f"JSON cannot hold {rounded}")
    shortest = float(np.format_float_scientific(rounded, unique=True))
    return int(shortest) if shortest == int(shortest) and abs(shortest) < 1e6 else shortest


def draw(generator, shape, scale=1.0, digits=3):
    """Draws normal inputs with few decimals, as the float64 value of their float32 rounding.

    The JSON reads back to exactly these inputs in float32, so a float64 reference sees what a float32 library sees.
    """
    return exact(np.round(generator.standard_normal(shape) * scale, digits))


def exact(values):
    """Returns values as float64 after a trip through float32."""
    return np.asarray(values, dtype=np.float32).astype(np.float64)


def write(script, made_with, content):
    """Writes content beside the script under the same name, one case or tensor a line."""
    path = pathlib.Path(script).with_suffix(".json")
    document = {"madeWith": made_with, **content}
    path.write_text(lay_out(document, 0) + "\n")
    size = path.stat().st_size
    if size > 150_000:
        raise ValueError(f"{path.name} has {size} bytes, more than a fixture may have")
    print(f"{path.name}: {size} bytes")


def lay_out(value, depth):
    """Prints a value on one line when it is short or holds no objects, else its members one a line."""
    line = json.dumps(value, allow_nan=False)
    is_tensor = isinstance(value, dict) and "data" in value and "shape" in value
    if is_tensor or not isinstance(value, (dict, list)) or len(line) + 2 * depth <= 110:
        return line
    if isinstance(value, list) and not any(isinstance(item, (dict, list)) for item in value):
        return line
    indent = "  " * (depth + 1)
    if isinstance(value, dict):
        members = [f"{indent}{json.dumps(name)}: {lay_out(item, depth + 1)}" for name, item in value.items()]
        return "{\n" + ",\n".join(members) + "\n" + "  " * depth + "}"
    return "[\n" + ",\n".join(indent + lay_out(item, depth + 1) for item in value) + "\n" + "  " * depth + "]"
