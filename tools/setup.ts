/**
 * Makes sure that this machine has a WebGPU adapter, and is silent when it has.
 *
 * Without a Vulkan driver on a Debian-like Linux it installs the software driver if it is root, and otherwise prints the
 * one command to run. `--detect` only looks, and answers through the exit status.
 *
 * @module
 */

const DRIVER_PACKAGE = "mesa-vulkan-drivers";
const INSTALL_COMMAND = `apt-get update && apt-get install -y ${DRIVER_PACKAGE}`;
const DETECT_FLAG = "--detect";
const BACKEND_VARIABLE = "DENO_WEBGPU_BACKEND";

/** Tells whether WebGPU finds an adapter in this process. */
async function hasAdapter(): Promise<boolean> {
  return (await navigator.gpu?.requestAdapter() ?? null) !== null;
}

/** Asks a fresh process, because the drivers are listed once per process; a backend can be given by name. */
async function hasAdapterInNewProcess(backend?: string): Promise<boolean> {
  const args = ["run", "--no-config", "-A", import.meta.filename ?? "", DETECT_FLAG];
  return await succeeds(Deno.execPath(), args, backend === undefined ? {} : { [BACKEND_VARIABLE]: backend });
}

/** Runs a command with its output shown and tells whether it succeeded; a missing program is a failure, not an error. */
async function succeeds(
  program: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<boolean> {
  try {
    const command = new Deno.Command(program, { args: [...args], env: { ...environment }, stdin: "null" });
    return (await command.spawn().status).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Tells whether this is a Linux whose packages come through apt-get. */
async function isDebianLike(): Promise<boolean> {
  if (Deno.build.os !== "linux") return false;
  return await Deno.stat("/etc/debian_version").then(() => true, () => false);
}

/** Installs the driver. A stale package list only matters if the install then fails, so a failed update is no stop. */
async function installDriver(): Promise<boolean> {
  console.error(`No Vulkan driver was found: installing the software driver (Debian package ${DRIVER_PACKAGE})`);
  const environment = { DEBIAN_FRONTEND: "noninteractive" };
  await succeeds("apt-get", ["update", "-qq"], environment);
  return await succeeds("apt-get", ["install", "-y", "-qq", "--no-install-recommends", DRIVER_PACKAGE], environment);
}

/** Tries to make an adapter available and returns the one thing left to do if that is not enough. */
async function provideDriver(): Promise<string> {
  if (!(await isDebianLike())) return "install a Vulkan driver; without a GPU a software driver works, such as Mesa's";
  if (Deno.uid() !== 0) return `sudo sh -c '${INSTALL_COMMAND}'`;
  return await installDriver() ? "see what `vulkaninfo --summary` reports" : INSTALL_COMMAND;
}

/** Finds an adapter or makes one available; ends the process with a failure if there is none. */
async function setup(): Promise<void> {
  const isBackendChosen = Deno.build.os !== "linux" || Deno.env.get(BACKEND_VARIABLE) !== undefined;
  // On Linux WebGPU falls back to OpenGL, with fewer features and lower limits: that must not pass for a driver.
  if (!isBackendChosen) Deno.env.set(BACKEND_VARIABLE, "vulkan");
  if (await hasAdapter()) return;
  const fix = await provideDriver();
  if (await hasAdapterInNewProcess()) return;
  if (!isBackendChosen && await hasAdapterInNewProcess("gl")) {
    console.error(`Using WebGPU over OpenGL: no Vulkan driver was found\nFix: ${fix}`);
    return;
  }
  console.error("Cannot set up WebGPU: no adapter was found");
  console.error(`  runtime  Deno ${Deno.version.deno}, ${Deno.build.os} ${Deno.build.arch}`);
  console.error(`Fix: ${fix}`);
  Deno.exit(1);
}

if (Deno.args.includes(DETECT_FLAG)) Deno.exit(await hasAdapter() ? 0 : 1);
await setup();
