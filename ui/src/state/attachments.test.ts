import { expect, test } from "vitest";

import { fileIn, isAttached, partOf, read, sizeOf } from "./attachments";

const refusal = (file: File, taken = 0) => read(file, taken).then(String, (error: Error) => error.message);

test("a text is read, whatever its name says", async () => {
  const text = "naïve\n```js\nlet a;\n```\n";
  const found = await read(new File([text], "notes.weird", { type: "application/octet-stream" }));
  expect(found).toEqual({ name: "notes.weird", text });
});

test.each(["", "one", "one\n", "one\n\n", "```\nfenced\n````\n", '"quoted"'])("a file comes out of its part as it was: %j", (text) => {
  const part = partOf({ name: 'a "name".md', text });
  expect(isAttached(part)).toBe(true);
  const found = fileIn(part)!;
  expect(found.name).toBe('a "name".md');
  expect(found.text).toBe(text);
});

test("a fence is longer than all that stand in the file", () => {
  const [, fence] = partOf({ name: "a.md", text: "````\nx\n````" }).text.value.split("\n");
  expect(fence).toBe("`````");
});

test("what a question says itself is no file", () => {
  expect(isAttached({ type: "text", text: { value: 'File "a":\n```\nb\n```', annotations: [] } })).toBe(false);
  expect(fileIn({ type: "image_file", image_file: { file_id: "file_1" } })).toBeNull();
});

test.each([
  ["photo.png", "\x89PNG\r\n\x1a\n", "", "is a picture"],
  ["photo", "\xff\xd8\xff\xe0", "", "is a picture"],
  ["photo.bmp", "BM12", "image/bmp", "is a picture"],
  ["photo.webp", "RIFF1234WEBP", "", "is a picture"],
  ["photo.heic", "\0\0\0\x18ftypheic", "", "is a picture"],
  ["film.mp4", "\0\0\0\x18ftypisom", "", "is a video"],
  ["talk.wav", "RIFF1234WAVE", "", "is a sound"],
  ["talk.mp3", "ID3\x04", "", "is a sound"],
  ["talk.aac", "\xff\xf1", "audio/aac", "is a sound"],
  ["paper.pdf", "%PDF-1.7", "text/plain", "is a PDF"],
  ["letter.docx", "PK\x03\x04", "", "is an archive or a document of an office program"],
  ["program", "\x7fELF\x01\0", "", "is no text in UTF-8"],
  ["zeros.txt", "ab\0cd", "text/plain", "is no text in UTF-8"],
  ["old.txt", "na\xefve", "text/plain", "is no text in UTF-8"],
])("%s is refused for what it is", async (name, bytes, type, why) => {
  const file = new File([Uint8Array.from(bytes, (char) => char.charCodeAt(0))], name, { type });
  expect(await refusal(file)).toMatch(`${name} ${why}`);
  expect(await refusal(file)).toContain("text only");
});

test("an SVG is a text", async () => {
  expect((await read(new File(["<svg/>"], "a.svg", { type: "image/svg+xml" }))).text).toBe("<svg/>");
});

test("nothing, and too much, is refused", async () => {
  expect(await refusal(new File([], "empty.txt"))).toBe("empty.txt is empty.");
  expect(await refusal(new File(["12345"], "more.txt"), (4 << 20) - 4)).toMatch("more.txt is too large");
  // A line break takes two bytes of a message.
  expect(sizeOf([{ name: "lines.txt", text: "\n\n" }])).toBe(6);
  expect(await refusal(new File(["\n".repeat(5)], "lines.txt"), (4 << 20) - 11)).toMatch("lines.txt is too large");
});
