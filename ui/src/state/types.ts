// What the screen of a conversation and its messages agree upon.

import type { Message, Run, ToolCall } from "../api/types";

/** What is being said now, as far as it has come: the text grows. */
export interface Live {
  text: string;
  thoughts: string;
  calls: ToolCall[];
}

/** What can be done at a message. Raises what the server refused. */
export interface Actions {
  /** An answer: another one to the same question, in a branch. */
  regenerate(): Promise<void>;
  /** A question: asked in other words, in a branch. Its files stay. */
  edit(text: string): Promise<void>;
  /** A new branch that ends with this message. */
  branchHere(): Promise<void>;
  /** The answer goes on where it ends; null where it is not the thread's last message. */
  continue: (() => Promise<void>) | null;
  /** Gives the run that waits for them what its calls gave back, by their ids. */
  submit(outputs: Record<string, string>): Promise<void>;
  remove(): Promise<void>;
}

export interface MessageProps {
  /** Of an answer that has no message yet: one without content, with the id it will have or "". */
  message: Message;
  /** The run that made it, if it is known; null at all but the last message of a run that made several. */
  run: Run | null;
  live: Live | null;
  /** null: nothing can be done now. */
  actions: Actions | null;
  /** The id of the message before it, "" for the thread's first one; null where that is not known. */
  after?: string | null;
}
