// One conversation: its messages, the answer that is being given, and the line of questions behind it.
//
// Answers are runs. They go on whoever listens, so this only watches them: after a reload, in a second tab and after the
// server was started again it goes on where it was. One loop does it all, while somebody looks or a question waits.

import { ApiError, call } from "../api/client";
import type { ServerEvent } from "../api/sse";
import type { Content, Message, Run, Thread, ToolCall } from "../api/types";
import { Answer } from "./answer.svelte";
import { ask } from "./asking";
import { chosenModel, modelOf } from "./chosen";
import { models } from "./models.svelte";
import { notices } from "./notices.svelte";
import { patiently, pause } from "./patience";
import { lineOf, THIS_TAB, threadsWithQuestions, type Line, type Question } from "./questions.svelte";
import { RunEvents } from "./run_events";
import { endedBadly, isOpen, isUnderWay, unsaid, withNewest, withOlder, wordsOf, type Loaded } from "./tail";
import { isUntitled, threads } from "./threads.svelte";

const PAGE = 50;
const OLDER = 25; // rendered in one go
const NEWEST = 10; // of those that are loaded, when something came
const MOST_LOADED = 200; // at the end
const POLL_MS = 3000;
const UNSEEN_POLL_MS = 60_000;
const OTHERS_MS = 1500; // for another tab to ask what was put in line there
const AGAIN_MS = 300; // until a stream that broke off is asked for anew

interface Page<T> {
  data: T[];
  has_more: boolean;
}

export class Conversation {
  thread = $state.raw<Thread | null>(null);
  loaded = $state.raw<Loaded>({ messages: [], hasOlder: false });
  /** The messages were read. */
  known = $state(false);
  /** There is no such thread. */
  missing = $state(false);
  /** Newest first. */
  runs = $state.raw<ReadonlyMap<string, Run>>(new Map());
  /** What is being said, by the ids of the messages. */
  live = $state.raw<ReadonlyMap<string, Answer>>(new Map());
  /** The last answer that was finished here, for those who hear the page: another one may have the same words. */
  finished = $state.raw<{ words: string } | null>(null);
  readonly line: Line;

  /** The first in line was asked before it was known how the newest run ended. */
  #askedEarly = false;
  #path: string;
  #watchers = 0;
  #ends: AbortController | null = null;
  #wake: (() => void) | null = null;
  /** Something may have happened since the loop looked last. */
  #isNews = false;
  #events: RunEvents;

  constructor(readonly id: string) {
    this.line = lineOf(id);
    this.#path = `threads/${id}`;
    this.#events = new RunEvents(this.#path);
  }

  get messages(): Message[] {
    return this.loaded.messages;
  }

  /** The newest one. */
  get run(): Run | null {
    return this.runs.values().next().value ?? null;
  }

  /** The model that is to answer; null: the server decides. */
  get model(): string | null {
    return modelOf(this.thread) ?? (models.usable.length > 1 ? chosenModel() : null);
  }

  /** The run behind which the line waits until somebody says that it goes on. */
  get halted(): Run | null {
    const { run } = this;
    const [head] = this.line.list;
    if (head === undefined || head.sent !== undefined || run === null || !endedBadly(run)) return null;
    return this.line.goesOnBehind(run.id) ? null : run;
  }

  /** The question whose turn it is. */
  get next(): Question | null {
    const [head] = this.line.list;
    if (head === undefined || head.problem !== undefined || isOpen(this.run) || this.halted !== null) return null;
    return head;
  }

  // --- what a reader does -------------------------------------------------------------------------------------------

  /** Puts a question in line; it is asked when its turn has come. */
  ask(text: string, parts: Content[] = []): void {
    this.line.add(text, parts, isOpen(this.run) ? null : (this.run?.id ?? null));
    this.#askedEarly ||= !this.known && this.line.list.length === 1;
  }

  /** Has the thread answered as it is. Raises ApiError. */
  async answer(): Promise<void> {
    this.follow(await call<Run>("POST", `${this.#path}/runs`, { body: { model: this.model ?? undefined } }));
  }

  /** Ends the answer; what was said stays. Raises ApiError. */
  async stop(): Promise<void> {
    if (this.run !== null) this.#learn(await call<Run>("POST", `${this.#path}/runs/${this.run.id}/cancel`));
  }

  /** Shows a run of this thread from here on. */
  follow(run: Run): void {
    this.#learn(run);
    this.#tellOthers();
    this.wake();
  }

  /** Reads the messages anew, without the older ones. Raises ApiError. */
  async refresh(): Promise<void> {
    this.loaded = await this.#page(PAGE);
    this.#tellOthers();
  }

  /** Reads older messages; gives what puts them before the others, or null if there are none. Raises ApiError. */
  async older(): Promise<(() => void) | null> {
    const [first] = this.messages;
    if (first === undefined || !this.loaded.hasOlder) return null;
    const older = await this.#page(OLDER, first.id);
    await this.#learnRunsSince(older.messages[0]);
    return () => {
      this.loaded = withOlder(this.loaded, older);
    };
  }

  /** Lets go of old messages. To be called where nobody sees them. */
  trim(): void {
    if (this.messages.length > MOST_LOADED) this.loaded = { messages: this.messages.slice(-PAGE), hasOlder: true };
  }

  /** Learns what was changed of the thread itself. Raises ApiError. */
  async reread(): Promise<void> {
    this.thread = await call<Thread>("GET", this.#path);
  }

  /** Raises ApiError. */
  async change(changes: Pick<Thread, "model_id">): Promise<void> {
    this.thread = await call<Thread>("POST", this.#path, { body: changes });
    await threads.refresh();
  }

  // --- what goes on -------------------------------------------------------------------------------------------------

  /** Keeps this as it is on the server. Returns how to end that; while a question waits it goes on all the same. */
  watch(): () => void {
    this.#watchers += 1;
    if (this.#ends === null) this.#begin();
    return () => {
      this.#watchers -= 1;
      if (this.#watchers === 0 && !this.#hasWork) this.#ends?.abort();
    };
  }

  /** There may be something new. */
  wake(): void {
    this.#events.endIfSilent();
    this.#isNews = true;
    this.#wake?.();
  }

  get #hasWork(): boolean {
    return this.next !== null || (isUnderWay(this.run) && this.line.list.length > 0);
  }

  #begin(): void {
    const ends = new AbortController();
    const stopListening = this.line.watch(() => this.wake());
    ends.signal.addEventListener("abort", () => {
      stopListening();
      this.#ends = null;
      if (this.#watchers === 0) open.delete(this.id);
    });
    this.#ends = ends;
    this.#live(ends.signal)
      .catch((error: unknown) => {
        if (ends.signal.aborted) return;
        if (error instanceof ApiError && error.status === 404) this.missing = true;
        else notices.failed(error);
      })
      .finally(() => ends.abort());
  }

  async #live(signal: AbortSignal): Promise<void> {
    await this.#load(signal);
    for (;;) {
      const { run, next } = this;
      if (run !== null && isUnderWay(run)) await this.#hear(run, signal);
      else if (next !== null && (await this.#isLeftToUs(next, signal))) await this.#send(next, signal);
      else if (next !== null) await this.#look(signal);
      else if (this.#watchers === 0) return this.#ends?.abort();
      else {
        await this.#quiet(document.hidden ? UNSEEN_POLL_MS : POLL_MS, signal);
        await this.#look(signal);
      }
    }
  }

  /** Until something may be new. */
  async #quiet(ms: number, signal: AbortSignal): Promise<void> {
    const woken = new Promise<void>((resolve) => (this.#wake = resolve));
    if (!this.#isNews) await Promise.race([woken, pause(ms, signal)]);
    this.#isNews = false;
    this.#wake = null;
  }

  /** Whether nobody else asks a question whose turn it is: the tab in which it was put in line comes first. */
  async #isLeftToUs({ id, by }: Question, signal: AbortSignal): Promise<boolean> {
    const end = Date.now() + OTHERS_MS;
    while (by !== THIS_TAB && this.line.find(id) !== undefined && Date.now() < end) {
      await this.#quiet(end - Date.now(), signal);
    }
    return this.line.find(id) !== undefined;
  }

  /** Asks the question whose turn it is. */
  async #send({ id, sent }: Question, signal: AbortSignal): Promise<void> {
    if (sent === undefined) this.line.change(id, { sent: { model: this.model, attempt: 0, isThere: false } });
    try {
      const run = await patiently(() => ask(this.#path, this.line, id), signal);
      if (run === null) return await this.#look(signal); // another tab was quicker
      this.#learn(run);
      await this.#readNewest(NEWEST, signal);
      this.line.remove(id);
      this.#tellOthers();
      threads.refresh().catch(() => undefined);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status === 401) throw error;
      await this.#look(signal);
      const isBusy = isOpen(this.run); // somebody else was quicker: it stays in line
      this.line.change(id, { sent: undefined, problem: isBusy ? undefined : error.message });
    }
  }

  // --- hearing a run ------------------------------------------------------------------------------------------------

  /** Until it has ended, or waits for the outputs of calls. */
  async #hear(run: Run, signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#events.listen(run.id, (event) => this.#take(event, run), signal);
      if (this.run?.id !== run.id || !isUnderWay(this.run)) break;
      await pause(AGAIN_MS, signal);
    }
    await this.#settle(signal);
  }

  #take({ event, data }: ServerEvent, run: Run): void {
    if (!event.startsWith("thread.")) return; // `done`, or an `error` of the stream: it is asked for anew
    const object = JSON.parse(data);
    if (event === "thread.message.delta") this.#answer(object.id, run).say(object.delta.content[0].text.value);
    else if (event === "thread.message.reasoning.delta") this.#answer(object.id, run).think(object.delta.reasoning);
    else if (event === "thread.run.step.delta") this.#tellCalls(object, run);
    else if (event === "thread.message.created") this.#answer(object.id, run);
    else if (event.startsWith("thread.run.") && !event.startsWith("thread.run.step.")) this.#learn(object);
  }

  /** What a message is saying; one that is new is shown from here on. */
  #answer(id: string, run: Run): Answer {
    let message = this.messages.find((other) => other.id === id);
    if (message === undefined) {
      message = unsaid(run, id);
      this.loaded = { ...this.loaded, messages: [...this.messages, message] };
    }
    let answer = this.live.get(id);
    if (answer === undefined) {
      answer = new Answer(wordsOf(message));
      this.live = new Map([...this.live, [id, answer]]);
    }
    return answer;
  }

  /** Calls stand with what was said before them. */
  #tellCalls(step: { id: string; delta: { step_details: { tool_calls?: ToolCall[] } } }, run: Run): void {
    const calls = step.delta.step_details.tool_calls;
    if (calls === undefined) return;
    const said = this.messages.filter(({ run_id }) => run_id === run.id).at(-1);
    this.#answer(said?.id ?? step.id, run).call(calls);
  }

  /** What a run has made is stored: that is shown in place of what was heard. */
  async #settle(signal: AbortSignal): Promise<void> {
    await this.#readNewest(Math.min(NEWEST + this.live.size, 100), signal);
    this.live = new Map();
    const last = this.messages.at(-1);
    if (this.run?.status === "completed" && last !== undefined) this.finished = { words: wordsOf(last) };
    if (this.thread !== null && isUntitled(this.thread)) {
      this.thread = await patiently(() => call<Thread>("GET", this.#path, { signal }), signal);
    }
    threads.refresh().catch(() => undefined);
  }

  // --- reading ------------------------------------------------------------------------------------------------------

  async #load(signal: AbortSignal): Promise<void> {
    const [thread, newest, runs] = await Promise.all([
      patiently(() => call<Thread>("GET", this.#path, { signal }), signal),
      patiently(() => this.#page(PAGE, undefined, signal), signal),
      patiently(() => this.#newestRuns(PAGE, undefined, signal), signal),
    ]);
    this.thread = thread;
    this.#learn(...runs);
    if (this.#askedEarly && this.run !== null && !isOpen(this.run)) this.line.goOnBehind(this.run.id);
    this.loaded = withNewest(this.loaded, newest);
    this.known = true;
  }

  /** Whether somebody asked or wrote something elsewhere. */
  async #look(signal: AbortSignal): Promise<void> {
    const [[run], newest] = await Promise.all([
      patiently(() => this.#newestRuns(1, undefined, signal), signal),
      patiently(() => this.#page(1, undefined, signal), signal),
    ]);
    const isNews = run !== undefined && (run.id !== this.run?.id || run.status !== this.run.status);
    if (run !== undefined) this.#learn(run);
    const isSame = JSON.stringify(newest.messages[0]) === JSON.stringify(this.messages.at(-1));
    if (isNews || !isSame) await this.#readNewest(NEWEST, signal);
  }

  async #readNewest(limit: number, signal: AbortSignal): Promise<void> {
    this.loaded = withNewest(this.loaded, await patiently(() => this.#page(limit, undefined, signal), signal));
  }

  async #page(limit: number, after?: string, signal?: AbortSignal): Promise<Loaded> {
    const query = { limit, order: "desc", after };
    const page = await call<Page<Message>>("GET", `${this.#path}/messages`, { query, signal });
    return { messages: page.data.reverse(), hasOlder: page.has_more };
  }

  async #newestRuns(limit: number, after?: string, signal?: AbortSignal): Promise<Run[]> {
    return (await call<Page<Run>>("GET", `${this.#path}/runs`, { query: { limit, after }, signal })).data;
  }

  /** Learns of the runs, as far back as a message. */
  async #learnRunsSince(message: Message | undefined): Promise<void> {
    for (;;) {
      const oldest = [...this.runs.values()].at(-1);
      if (message === undefined || oldest === undefined || oldest.created_at < message.created_at) return;
      const more = await this.#newestRuns(PAGE, oldest.id);
      if (more.length === 0) return;
      this.#learn(...more);
    }
  }

  /** Runs as they are now. One that has ended does not begin again, whatever an older answer says. */
  #learn(...runs: Run[]): void {
    const all = new Map(this.runs);
    for (const run of runs) {
      const known = all.get(run.id);
      if (known === undefined || isOpen(known) || !isOpen(run)) all.set(run.id, run);
    }
    const newestFirst = (one: Run, other: Run) => other.created_at - one.created_at || (other.id < one.id ? -1 : 1);
    this.runs = new Map([...all.values()].sort(newestFirst).map((run) => [run.id, run]));
  }

  #tellOthers(): void {
    otherTabs.postMessage(this.id);
  }
}

const open = new Map<string, Conversation>();

/** A conversation that somebody looks at, or will in a moment. */
export function conversationOf(id: string): Conversation {
  let conversation = open.get(id);
  if (conversation === undefined) open.set(id, (conversation = new Conversation(id)));
  return conversation;
}

/** Asks the questions that wait since the page was last open. */
export function carryOn(): void {
  for (const id of threadsWithQuestions()) conversationOf(id).watch()();
}

const otherTabs = new BroadcastChannel("janflask.conversations");
otherTabs.addEventListener("message", ({ data }) => open.get(data as string)?.wake());

const wakeAll = () => {
  for (const conversation of open.values()) conversation.wake();
};
document.addEventListener("visibilitychange", wakeAll);
addEventListener("online", wakeAll);
