/**
 * Configuration on disk: the file behind `--config`, and the `config.json` that a run leaves in its folder.
 *
 * @module
 */
import { CheckpointError, ConfigError } from "../../mod.ts";
import { type ConfigSources, resolveConfig, type TrainConfig } from "./config.ts";
import { OPTION_NAMES, PROCESS_OPTIONS } from "./option_table.ts";
import { readFailure } from "./read_failure.ts";

/** Name of the configuration file in a run's folder. */
export const CONFIG_FILE = "config.json";

/**
 * Reads what the flags point to (`--config`, the run behind `--resume`) and resolves the configuration.
 *
 * On resume, `out` becomes the resumed folder unless it was given.
 *
 * @param sources The flags and the class of the adapter.
 * @returns The complete configuration.
 * @throws {ConfigError} If the file is missing or not JSON, or an option is invalid.
 * @throws {CheckpointError} If the folder to resume holds no configuration.
 */
export async function loadConfig(sources: Pick<ConfigSources, "adapter" | "flags">): Promise<TrainConfig> {
  const path = sources.flags?.["config"];
  const file = path === undefined ? undefined : { path: String(path), values: await readJson(String(path)) };
  const inFile = (file?.values as { readonly resume?: unknown } | null | undefined)?.resume;
  const resume = sources.flags?.["resume"] ?? inFile;
  // A malformed `resume` is left to resolveConfig, which reports it together with everything else.
  const saved = typeof resume === "string" && resume !== "" ? await readSavedConfig(resume) : undefined;
  const config = resolveConfig({
    ...sources,
    ...(file === undefined ? {} : { file }),
    ...(saved === undefined ? {} : { saved }),
  });
  return { ...config, out: config.out ?? config.resume };
}

/**
 * Reads the configuration that a run left in its folder. What an older program did not know and write is as if it had not
 * been given.
 *
 * @param directory The run's folder.
 * @returns The configuration, with the options of one process at their defaults.
 * @throws {CheckpointError} If there is no `config.json`.
 * @throws {ConfigError} If it is not JSON, or an option in it is unknown or invalid.
 */
export async function readSavedConfig(directory: string): Promise<TrainConfig> {
  const path = `${directory}/${CONFIG_FILE}`;
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    throw new CheckpointError("checkpoint/missing", {
      summary: `Cannot use ${directory} as a run: ${readFailure(error)}`,
      facts: [["looked for", path]],
      fix: "pass the folder that an earlier run wrote with --out",
      details: { directory },
    });
  }
  const values = parseJson(text, path);
  return resolveConfig({ adapter: "software", file: { path, values } });
}

/**
 * Formats a configuration as a run keeps it: everything but the options of one process. The text is also a valid
 * `--config` file.
 *
 * @param config The configuration.
 * @returns Indented JSON with a trailing newline.
 */
export function formatSavedConfig(config: TrainConfig): string {
  const kept = OPTION_NAMES.filter((name) => !PROCESS_OPTIONS.includes(name));
  return `${JSON.stringify(Object.fromEntries(kept.map((name) => [name, config[name]])), null, 2)}\n`;
}

async function readJson(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    throw new ConfigError("config/file", {
      summary: `Cannot read ${path || "the file of --config"}: ${readFailure(error)}`,
      fix: "--config takes the path of a JSON file with options",
      details: { path },
    });
  }
  return parseJson(text, path);
}

function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ConfigError("config/file", {
      summary: `Cannot read ${path}: it is not JSON`,
      facts: [["parser", error instanceof Error ? error.message : String(error)]],
      details: { path },
    });
  }
}
