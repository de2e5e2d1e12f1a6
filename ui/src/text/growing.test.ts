import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { GrowingText } from "./growing.svelte";
import type { Block } from "./tree";

let frames: (() => void)[] = [];

beforeEach(() => {
  frames = [];
  vi.stubGlobal("requestAnimationFrame", (run: () => void) => frames.push(run));
  vi.stubGlobal("cancelAnimationFrame", () => (frames = []));
});
afterEach(() => vi.unstubAllGlobals());

function nextFrame(): void {
  const due = frames;
  frames = [];
  for (const run of due) run();
}

function length(blocks: Block[]): number {
  return JSON.stringify(blocks).length;
}

test("a text is there at once, and grows a frame at a time, however often it is told", () => {
  const text = new GrowingText();
  text.follow("One", true);
  expect(text.blocks).toHaveLength(1);
  const before = text.blocks;
  for (const more of ["One\n", "One\n\nTw", "One\n\nTwo"]) text.follow(more, true);
  expect(text.blocks).toBe(before);
  expect(frames).toHaveLength(1);
  nextFrame();
  expect(text.blocks).toHaveLength(2);
  expect(frames).toHaveLength(0);
});

test("a long text comes in steps", () => {
  const text = new GrowingText();
  text.follow("A paragraph.\n\n".repeat(10_000), false);
  let steps = 0;
  for (let shown = 0; frames.length > 0; steps += 1) {
    shown = text.blocks.length;
    nextFrame();
    expect(text.blocks.length).toBeGreaterThan(shown);
  }
  expect(steps).toBeGreaterThan(5);
  expect(text.blocks).toHaveLength(10_000);
});

test("what goes on after its end loses nothing meanwhile", () => {
  const whole = "Some *words*.\n\n".repeat(1000);
  const text = new GrowingText();
  text.follow(whole, false);
  while (frames.length > 0) nextFrame();
  const shown = length(text.blocks);
  text.follow(`${whole}And`, true);
  expect(length(text.blocks)).toBeGreaterThanOrEqual(shown);
  nextFrame();
  expect(text.blocks).toHaveLength(1001);
});

test("another text takes the place of one", () => {
  const text = new GrowingText();
  text.follow("One", false);
  text.follow("Two\n\nThree", false);
  expect(JSON.stringify(text.blocks)).not.toContain("One");
  expect(text.blocks).toHaveLength(2);
});
