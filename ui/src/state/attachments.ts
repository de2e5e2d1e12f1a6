// Files that go into a question: texts, as parts of their own. No model here is shown anything else.

import type { Content, TextContent } from "../api/types";

/** A text file that was read. */
export interface Attached {
  name: string;
  text: string;
}

/** The server's own limit for a message, unless its owner set another (JANFLASK_MAX_MESSAGE_MB). */
const MOST_BYTES = 4 << 20;
const TOO_LARGE = "is too large: a message takes 4 MB in all.";
const ANNOTATION = "attached_file";

/** Reads a file; raises an Error that says why it cannot be attached. `taken`: bytes of those that are attached. */
export async function read(file: File, taken = 0): Promise<Attached> {
  const refused = (why: string) => new Error(`${file.name} ${why}`);
  if (file.size === 0) throw refused("is empty.");
  const kind = kindOf(new Uint8Array(await file.slice(0, 16).arrayBuffer()), file.type);
  if (kind !== null) throw refused(`is ${kind}. The models here read text only.`);
  if (file.size + taken > MOST_BYTES) throw refused(TOO_LARGE);
  const text = decoded(await file.arrayBuffer());
  if (text === null) throw refused("is no text in UTF-8. The models here read text only.");
  const attached = { name: file.name, text };
  if (sizeOf([attached]) + taken > MOST_BYTES) throw refused(TOO_LARGE);
  return attached;
}

/** Text in UTF-8; null: something else. */
function decoded(bytes: ArrayBuffer): string | null {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return text.includes("\0") ? null : text;
  } catch {
    return null;
  }
}

/** Bytes of what is attached, as a message counts them: in JSON. */
export function sizeOf(attached: Attached[]): number {
  return attached.reduce((sum, { text }) => sum + new TextEncoder().encode(JSON.stringify(text)).length, 0);
}

/** The part of a message by which the model is shown a file. */
export function partOf({ name, text }: Attached): TextContent {
  const fence = "`".repeat(Math.max(3, ...[...text.matchAll(/`{3,}/g)].map(([ticks]) => ticks.length + 1)));
  const value = `File ${JSON.stringify(name)}:\n${fence}\n${text}\n${fence}`;
  return { type: "text", text: { value, annotations: [{ type: ANNOTATION, name }] } };
}

export function isAttached(part: Content): boolean {
  return nameOf(part) !== null;
}

/** The file that a part holds; null for one that is none. */
export function fileIn(part: Content): Attached | null {
  const name = nameOf(part);
  if (name === null) return null;
  const lines = (part as TextContent).text.value.split("\n");
  return { name, text: lines.slice(2, -1).join("\n") };
}

function nameOf(part: Content): string | null {
  if (part.type !== "text") return null;
  const noted = (part as TextContent).text.annotations.find(
    (note) => (note as { type?: unknown } | null)?.type === ANNOTATION,
  ) as { name?: unknown } | undefined;
  return noted === undefined ? null : String(noted.name ?? "file");
}

const PICTURE = "a picture";
const SOUND = "a sound";
const VIDEO = "a video";
const BEGINNINGS: [string, string][] = [
  ["\x89PNG", PICTURE],
  ["\xff\xd8\xff", PICTURE],
  ["GIF8", PICTURE],
  ["%PDF", "a PDF"],
  ["PK\x03\x04", "an archive or a document of an office program"],
  ["ID3", SOUND],
  ["OggS", SOUND],
  ["fLaC", SOUND],
];

/** What a file is that is no text, by its first bytes, else by the type that the browser gives it; null: a text, maybe. */
function kindOf(start: Uint8Array, type: string): string | null {
  const head = String.fromCharCode(...start);
  if (head.startsWith("RIFF")) return { WEBP: PICTURE, WAVE: SOUND }[head.slice(8, 12)] ?? VIDEO;
  if (head.slice(4, 8) === "ftyp") return /^(avif|hei[cf]|mif1)/.test(head.slice(8)) ? PICTURE : VIDEO;
  const found = BEGINNINGS.find(([beginning]) => head.startsWith(beginning));
  if (found !== undefined) return found[1];
  if (type.startsWith("image/") && type !== "image/svg+xml") return PICTURE;
  return type.startsWith("audio/") ? SOUND : null;
}
