import { assert, assertEquals } from "@std/assert";
import { AdapterError, type DeviceInfo } from "../../mod.ts";
import { diagnose } from "../../src/train/diagnose.ts";
import type { ProfileEvent, RunEvent } from "../../src/train/events.ts";
import { describeEvent, describeProfile, formatEvent } from "../../src/train/output.ts";
import { trackProgress } from "../../src/train/progress.ts";
import { nameFolder } from "../../src/train/run_folder.ts";
import { gpuTest } from "../support/runtimes.ts";

const START: RunEvent = {
  event: "start",
  out: "runs/a",
  adapter: "llvmpipe",
  model: "transformerLm(256, 3 x 128)",
  parameters: 1_930_000,
  activeParameters: 540_000,
  corpus: "sotu, 12 of 233 documents held out whole",
  step: 0,
  steps: 1500,
  plannedBytes: 312_000_000,
};

const ROW: RunEvent = {
  event: "metrics",
  step: 100,
  loss: 1.75,
  trainBitsPerByte: 2.5,
  validationBitsPerByte: 2.625,
  bytesPerSecond: 12345,
};

const END: RunEvent = {
  event: "end",
  reason: "seconds",
  step: 1400,
  bytesSeen: 2_867_200,
  seconds: 252,
  validationBitsPerByte: 2.41,
  gzipBitsPerByte: 2.709,
  prompt: "The ",
  sample: "state\n\0of",
  files: ["runs/a/report.html"],
};

Deno.test("describeEvent() tells a run in a few lines", () => {
  assertEquals(
    [START, ROW, END].flatMap((event) => describeEvent(event, "all")).join("\n").replaceAll("\u202f", " "),
    [
      "Model     transformerLm(256, 3 x 128): 1.93 M parameters, 540 k of them used by a byte",
      "Text      sotu, 12 of 233 documents held out whole",
      "Adapter   llvmpipe",
      "Memory    312 MB planned for a step",
      "Folder    runs/a",
      "Training  1,500 steps",
      "step 100  validation 2.625 bits per byte  training 2.500  12.3 k tokens/s",
      "Validation  2.410 bits per byte, below gzip -9 (2.709)",
      "Trained on  2.87 MB in 1,400 steps and 4 min 12 s, then the time was up",
      "Sample",
      "    The state",
      "    \u2400of",
      "Written",
      "    runs/a/report.html",
    ].join("\n"),
  );
});

Deno.test("describeEvent() leaves evaluations to the bar, and says only the end when quiet", () => {
  assertEquals(describeEvent(ROW, "bar"), []);
  assertEquals([START, ROW].flatMap((event) => describeEvent(event, "quiet")), []);
  assertEquals(describeEvent(END, "quiet").length, 7);
  assertEquals(describeEvent({ event: "interrupted", step: 12, out: "runs/a" }, "quiet"), [
    "Stopped after step 12, saved. Go on with: deno task train --resume runs/a",
  ]);
});

Deno.test("formatEvent() writes one line, with null for what is no number", () => {
  assertEquals(formatEvent({ event: "metrics", step: 3, loss: NaN }), '{"event":"metrics","step":3,"loss":null}');
  assertEquals(formatEvent(END).includes("\n"), false);
});

Deno.test("trackProgress() shows step, loss, bits per byte, speed and the time left", () => {
  let now = 3;
  const progress = trackProgress({ clock: () => now, deadline: null });
  assertEquals(progress.describe(), "step 0/0");
  progress.onEvent(START);
  progress.onEvent(ROW);
  now = 23;
  progress.onStep(200);
  assertEquals(
    progress.describe().replaceAll("\u202f", " "),
    "step 200/1,500  loss 1.750  2.500 bits per byte  validation 2.625  12.3 k tokens/s  4 min 20 s left",
  );
});

Deno.test("trackProgress() does not promise more time than there is", () => {
  let now = 3;
  const progress = trackProgress({ clock: () => now, deadline: 60 });
  for (const event of [START, ROW]) progress.onEvent(event);
  now = 23;
  progress.onStep(200);
  assert(progress.describe().endsWith("37 s left"));
});

Deno.test("nameFolder() names a run after time and router", () => {
  assertEquals(nameFolder("topk", new Date(Date.UTC(2026, 0, 2, 3, 4, 5))), "runs/20260102-030405-topk");
});

const DEVICE: DeviceInfo = {
  adapter: "Fast GPU",
  software: false,
  features: ["shader-f16"],
  limits: { maxBufferSize: 2 ** 31, maxComputeWorkgroupSizeX: 1024 },
  calibration: { date: "2026-01-02T03:04:05.678Z", path: "/caches/fast-gpu.json" },
};

gpuTest("diagnose() describes the adapter and names what is missing", async () => {
  const { lines, isUsable } = await diagnose(() => Promise.resolve(DEVICE));
  assertEquals(isUsable, true);
  assertEquals(lines.slice(1), [
    "Adapter   Fast GPU",
    "Computes  yes",
    "Features  shader-f16",
    "Kernels   as calibrated on 2026-01-02: /caches/fast-gpu.json",
    "Limits",
    "  maxBufferSize             2,048 MiB",
    "  maxComputeWorkgroupSizeX  1,024",
    "",
    "Missing   timestamp-query (exact times of kernels in benchmarks)",
  ]);
  const software = await diagnose(() => Promise.resolve({ ...DEVICE, software: true, calibration: null }));
  assert(software.lines.some((line) => line.startsWith("Kernels   built-in choices")));
  assert(software.lines.some((line) => line.startsWith("Missing   a GPU: everything works, slowly.")));
});

Deno.test("diagnose() takes a missing adapter for a finding, with the fix", async () => {
  const error = new AdapterError("device/no-adapter", { summary: "Cannot start WebGPU", fix: "install a driver" });
  const { lines, isUsable } = await diagnose(() => Promise.reject(error));
  assertEquals([isUsable, ...lines.slice(1)], [
    false,
    "Adapter   none",
    "",
    "Cannot start WebGPU\nFix: install a driver",
  ]);
});

Deno.test("describeProfile() is for standard error, and quiet where all is", () => {
  const event: ProfileEvent = {
    event: "profile",
    step: 4,
    path: "step.json",
    kernels: 2,
    totalMs: 1.5,
    clock: "host",
    table: ["2 kernels, 1.500 ms on the host's clock", "   ms  share"],
  };
  assertEquals(describeEvent(event, "all"), []);
  assertEquals(describeProfile(event, "bar"), ["Profile of step 4, written to step.json", ...event.table]);
  assertEquals(describeProfile(event, "quiet"), []);
});
