/**
 * Opens pages in a headless Chromium, where one is installed.
 *
 * @module
 */

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

/** What a page looks like once it is loaded. */
export interface LoadedPage {
  /** The document after parsing, as HTML. */
  readonly dom: string;
  /** What the page wrote to the console: errors, warnings, refused requests. */
  readonly console: readonly string[];
}

/**
 * Finds a Chromium on the path.
 *
 * @returns Its path, or undefined after a notice that a test is skipped.
 * @throws {Error} If there is none and SWITCHYARD_REQUIRE_BROWSER is 1.
 */
export async function findBrowser(): Promise<string | undefined> {
  for (const folder of (Deno.env.get("PATH") ?? "").split(":")) {
    for (const name of NAMES) {
      const found = await Deno.stat(`${folder}/${name}`).catch(() => undefined);
      if (found?.isFile) return `${folder}/${name}`;
    }
  }
  if (Deno.env.get("SWITCHYARD_REQUIRE_BROWSER") === "1") {
    throw new Error("SWITCHYARD_REQUIRE_BROWSER is 1, but none of these is on the path: " + NAMES.join(", "));
  }
  console.warn("no Chromium on the path: the browser tests are ignored (Debian package chromium)");
  return undefined;
}

/**
 * Loads a page.
 *
 * @param browser Path of a Chromium.
 * @param html The page.
 * @returns The document and the console.
 */
export async function openPage(browser: string, html: string): Promise<LoadedPage> {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/page.html`, html);
    const { stdout, stderr } = await new Deno.Command(browser, {
      args: [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        `--user-data-dir=${folder}/profile`,
        "--enable-logging=stderr",
        "--dump-dom",
        `file://${folder}/page.html`,
      ],
    }).output();
    const decoder = new TextDecoder();
    const lines = decoder.decode(stderr).split("\n");
    return { dom: decoder.decode(stdout), console: lines.filter((line) => line.includes(":CONSOLE")) };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
