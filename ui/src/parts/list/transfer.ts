// Conversations out of this server as files, and into it.

import { ApiError, call, send } from "../../api/client";
import type { Thread } from "../../api/types";
import { shownId, titleOf } from "../../state/threads.svelte";

/** What became of the files of an import. */
export interface Report {
  /** Conversations that are here now. */
  threads: number;
  /** Conversations, assistants and files that keep another id than they had. */
  renamed: number;
  /** What was left out, and why. */
  skipped: { name: string; reason: string }[];
}

type Answer = { object: "thread" } | ArchiveAnswer;

interface ArchiveAnswer {
  object: "thread.import";
  threads: string[];
  renamed: Record<string, string>;
  skipped: { path: string; reason: string }[];
}

const ZIP = "application/zip";
const ZIP_START = "PK";

/** Has the browser keep a conversation, as it was last looked at, as a file that can be imported again. */
export async function exportThread(thread: Thread): Promise<void> {
  const documentOf = (id: string) => send("GET", `threads/${id}/export`);
  const response = await documentOf(shownId(thread)).catch((error: unknown) => {
    if (shownId(thread) === thread.id || !(error instanceof ApiError && error.status === 404)) throw error;
    return documentOf(thread.id); // that branch is gone
  });
  save(await response.blob(), `${fileName(titleOf(thread))}.json`);
}

/** Has the browser keep everything there is as one archive. */
export async function exportAll(): Promise<void> {
  const response = await send("GET", "threads/export");
  save(await response.blob(), `conversations-${new Date().toISOString().slice(0, 10)}.zip`);
}

/** Sends files, documents of one conversation or archives, one after the other. A refusal is told in the report. */
export async function importFiles(files: Iterable<File>): Promise<Report> {
  const report: Report = { threads: 0, renamed: 0, skipped: [] };
  for (const file of files) {
    try {
      await importFile(file, report);
    } catch (error) {
      report.skipped.push({ name: file.name, reason: error instanceof Error ? error.message : String(error) });
    }
  }
  return report;
}

/** What is here now because of an import. */
export function came({ threads, renamed }: Report): string {
  const count = threads === 0 ? "No conversation" : threads === 1 ? "1 conversation" : `${threads} conversations`;
  const news = renamed === 0 ? "" : " Something else has the ids of some of what came: it has new ones.";
  return `${count} imported.${news}`;
}

async function importFile(file: File, report: Report): Promise<void> {
  const zip = (await file.slice(0, ZIP_START.length).text()) === ZIP_START;
  const body = new Blob([file], { type: zip ? ZIP : "application/json" });
  const answer = await call<Answer>("POST", "threads/import", { body });
  if (answer.object === "thread") {
    report.threads += 1;
    return;
  }
  report.threads += answer.threads.length;
  report.renamed += Object.keys(answer.renamed).length;
  for (const { path, reason } of answer.skipped) report.skipped.push({ name: path, reason });
}

/** Without what some file system does not take. */
function fileName(title: string): string {
  const name = title.replace(/[\s\p{Cc}\\/:*?"<>|]+/gu, " ").trim();
  return name.slice(0, 80).trim() || "conversation";
}

function save(content: Blob, name: string): void {
  const url = URL.createObjectURL(content);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // by then the browser has begun to read
}
