// What the keyboard does, in one place: the list that `?` opens, and the keys that work on every screen.

import { notices } from "../../state/notices.svelte";
import { NEW, place } from "../../state/route.svelte";
import { shell } from "../../state/shell.svelte";

const APPLE = /^(Mac|iPhone|iPad)/.test(navigator.platform);
const CTRL = APPLE ? "⌘" : "Ctrl";
const SHIFT = APPLE ? "⇧" : "Shift";
const ARIA_CTRL = APPLE ? "Meta" : "Control";

export interface Shortcut {
  keys: readonly string[];
  what: string;
}

interface Global extends Shortcut {
  aria: string;
  run: () => void;
}

/** Those that work everywhere. */
export const keys = {
  new: { keys: [CTRL, SHIFT, "O"], aria: `${ARIA_CTRL}+Shift+O`, what: "New conversation", run: () => place.go(NEW) },
  search: { keys: [CTRL, "K"], aria: `${ARIA_CTRL}+K`, what: "Search conversations", run: search },
  fold: {
    keys: [CTRL, "B"],
    aria: `${ARIA_CTRL}+B`,
    what: "Show or hide the list",
    run: () => shell.toggle(),
  },
} satisfies Record<string, Global>;

export const SHORTCUTS: readonly { title: string; list: readonly Shortcut[] }[] = [
  {
    title: "Everywhere",
    list: [
      ...Object.values(keys),
      { keys: [CTRL, "Z"], what: "Undo what was deleted, while its notice is shown" },
      { keys: ["?"], what: "This list" },
    ],
  },
  {
    title: "In the list of conversations",
    list: [
      { keys: ["↑", "↓"], what: "The one above, below" },
      { keys: ["Enter"], what: "Open" },
      { keys: ["F2"], what: "Rename" },
      { keys: ["Delete"], what: "Delete" },
    ],
  },
  {
    title: "While you write",
    list: [
      { keys: ["Enter"], what: "Send" },
      { keys: [CTRL, "Enter"], what: "Send, where Enter begins a line, too" },
      { keys: [SHIFT, "Enter"], what: "New line" },
    ],
  },
];

/** Carries out what a key stands for on every screen. */
export function onShortcut(event: KeyboardEvent): void {
  const command = (APPLE ? event.metaKey : event.ctrlKey) && !event.altKey;
  const typing = isTyping(event.target);
  let run: (() => void) | undefined;
  if (command) run = commandOf(event, typing && !isEmpty(event.target));
  else if (event.key === "?" && !typing && !event.altKey) run = () => (shell.shortcuts = true);
  if (run === undefined || event.defaultPrevented || document.querySelector("dialog:modal") !== null) return;
  event.preventDefault();
  run();
}

function commandOf(event: KeyboardEvent, typing: boolean): (() => void) | undefined {
  const key = event.key.toLowerCase();
  if (event.shiftKey) return key === "o" ? keys.new.run : undefined;
  const last = notices.undoable;
  if (key === "z") return typing || last === undefined ? undefined : () => notices.act(last.id);
  return { k: keys.search.run, b: keys.fold.run }[key];
}

function search(): void {
  shell.toggle(true);
  // Behind the next frame: a list that was folded takes no focus before.
  requestAnimationFrame(() => document.getElementById("search")?.focus());
}

/** There is nothing that was typed and could be undone. */
function isEmpty(target: EventTarget | null): boolean {
  return (target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement) && target.value === "";
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || target.matches("input, textarea, select"));
}
