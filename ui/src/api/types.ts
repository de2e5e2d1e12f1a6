// What the server answers with, as far as the page uses it. The whole of it is in /docs.

export interface Thread {
  id: string;
  title: string;
  created_at: number;
  updated: number;
  model_id?: string | null;
  assistants: ThreadAssistant[];
  metadata: Record<string, unknown>;
  settings?: Values;
  parameters?: Values;
  messages?: string[];
}

export interface ThreadAssistant {
  id?: string;
  assistant_id?: string;
  assistant_name?: string;
  name?: string;
  model?: { id?: string; settings?: Values; parameters?: Values } | string | null;
  instructions?: string | null;
}

/** Settings or parameters by their names. */
export type Values = Record<string, unknown>;

export interface TextContent {
  type: "text";
  text: { value: string; annotations: unknown[] };
}

export type Content = TextContent | { type: string; [field: string]: unknown };

export interface ToolCall {
  id: string;
  type: string;
  function: { name: string; arguments: string; output?: string | null };
}

/** A call as a message keeps it. */
export interface KeptCall {
  id: string;
  name: string;
  arguments: string;
  output: string | null;
}

export interface Message {
  id: string;
  thread_id: string;
  role: "user" | "assistant" | "system" | "developer" | "tool";
  created_at: number;
  content: Content[];
  run_id?: string | null;
  status: "completed" | "in_progress" | "incomplete";
  incomplete_details?: { reason: string } | null;
  attachments?: { file_id: string }[] | null;
  metadata: Record<string, unknown>;
  tool_calls?: ToolCall[] | null;
  tool_call_id?: string | null;
  /** What the model thought before it. */
  reasoning_content?: string | null;
  /** What was called before it. */
  tool_rounds?: { message_id: string | null; calls: KeptCall[] }[];
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_token_details?: { cached_tokens?: number } | null;
}

export type RunStatus =
  | "queued"
  | "in_progress"
  | "requires_action"
  | "cancelling"
  | "cancelled"
  | "failed"
  | "completed"
  | "incomplete"
  | "expired";

export interface Run {
  id: string;
  thread_id: string;
  assistant_id: string;
  model: string;
  status: RunStatus;
  created_at: number;
  started_at: number | null;
  completed_at: number | null;
  last_error: { code: string; message: string } | null;
  incomplete_details: { reason: string } | null;
  required_action: { submit_tool_outputs: { tool_calls: ToolCall[] } } | null;
  usage: Usage | null;
  left_out_message_ids: string[];
  response_format?: unknown;
  /** What the answer must look like, where another field said so: that field. */
  form?: Record<string, unknown> | null;
  metadata: Record<string, unknown>;
  timings?: Timings | null;
}

/** Where the time of a run went that has ended by itself, or waits; null where nobody knows. */
export interface Timings {
  queue_ms: number;
  prompt_ms: number;
  prompt_per_second: number;
  predicted_ms: number;
  predicted_per_second: number;
  time_to_first_token_ms: number | null;
  cached_tokens: number;
  /** The size of the model's context. */
  context_tokens: number | null;
}

export interface Model {
  id: string;
  name: string;
  description?: string;
  state: string | null;
  status: string;
  error?: string | null;
  notes?: string[];
  settings: Values;
  parameters: Values;
  metadata: Record<string, unknown>;
  /** Where it came from. */
  source_url?: string | null;
  upstream?: { kind: string; model: string; servers: { base_url: string }[] } | null;
  download?: Download | null;
  runtime?: Runtime | null;
  stats?: Record<string, number | null> | null;
  assets?: unknown[];
}

/** How far a model's download is, over all its files. Sizes in bytes. */
export interface Download {
  stage: "queued" | "resolving" | "downloading" | "verifying" | "failed";
  transferred: number;
  total: number | null;
  percent: number | null;
  bytes_per_second: number;
  eta_seconds: number | null;
  error: string | null;
}

export interface Runtime {
  ctx_len: number;
  n_parallel: number;
  kv_cells: number;
  memory_bytes: number;
  used_bytes: number | null;
  load_seconds: number;
  [field: string]: unknown;
}

export interface Assistant {
  id: string;
  name: string;
  description?: string;
  model: string;
  instructions?: string;
  temperature?: number | null;
  top_p?: number | null;
  [field: string]: unknown;
}
