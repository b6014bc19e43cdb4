/**
 * The process of one peer: it answers requests, one JSON object a line, on standard input and output.
 *
 * A process of its own, because a library may log, leave a device broken or crash, and none of that must reach the
 * library it is compared with. Arrays are files in a folder that both processes know.
 *
 * @module
 */
import { type Library, LOADERS, type Prepared } from "./libraries.ts";
import { readArrays, readLines, type Reply, type Request, writeOutputs } from "./protocol.ts";
import { prepareStart } from "./start.ts";

// Standard output carries replies alone.
console.log = console.error;
console.info = console.error;

/** What was logged as an error since the last reply: WebGPU backends report broken shaders there, if anywhere. */
let complaints: string[] = [];
const logError = console.error;
console.error = (...parts: readonly unknown[]) => {
  complaints.push(parts.map((part) => part instanceof Error ? part.message : String(part)).join(" "));
  logError(...parts);
};

interface Loaded {
  readonly name: string;
  readonly backend: string;
  readonly implementation: Library;
}

let library: Loaded | null = null;
let prepared: Prepared | null = null;

async function answer(request: Request): Promise<Reply> {
  switch (request.ask) {
    case "load":
      library = {
        name: request.library,
        backend: request.backend,
        implementation: await LOADERS[request.library]!(request.backend),
      };
      return {};
    case "prepare":
      prepared = request.task.kind === "start"
        ? prepareStart(request.task, library!.name, library!.backend)
        : await library!.implementation.prepare(
          request.task,
          await readArrays(request.folder, request.inputs),
          request.form,
        );
      await writeOutputs(request.folder, await prepared.outputs());
      return {};
    case "turn": {
      const start = performance.now();
      for (let call = 0; call < request.calls; call++) {
        const pending = prepared!.call();
        if (pending !== undefined) await pending;
      }
      if (request.settle) await prepared!.settle();
      return { ms: performance.now() - start };
    }
  }
}

for await (const line of readLines(Deno.stdin.readable)) {
  let reply: Reply;
  try {
    reply = await answer(JSON.parse(line) as Request);
  } catch (error) {
    reply = { error: error instanceof Error ? `${error.name}: ${error.message}` : String(error) };
  }
  // Uncaptured WebGPU errors arrive a little later than what they spoil.
  await new Promise((resolve) => setTimeout(resolve, 0));
  const logged = complaints.length === 0 ? {} : { logged: complaints.join("\n") };
  complaints = [];
  await Deno.stdout.write(new TextEncoder().encode(`${JSON.stringify({ ...reply, ...logged })}\n`));
}
