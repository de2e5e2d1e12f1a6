// Reads streams as JavaScript clients do. Prints the run's id once all are read, then what they were told, each as JSON.
// node streams.mjs BASE_URL MODEL THREAD_ID
import { EventSource } from "eventsource";
import OpenAI from "openai";

const [base, model, threadId] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: "none", maxRetries: 0 });

async function chat() {
  const stream = await client.chat.completions.create({
    model,
    messages: [{ role: "user", content: "Hi" }],
    max_tokens: 8,
    temperature: 0,
    stream: true,
  });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  return text;
}

// The run's own stream, by the SDK; its first event tells its id.
async function* run() {
  const given = { assistant_id: "jan", model, max_completion_tokens: 8, temperature: 0, stream: true };
  yield* await client.beta.threads.runs.create(threadId, given);
}

// The same events, by a browser's way to read them.
function watched(runId) {
  const source = new EventSource(`${base}/v1/threads/${threadId}/runs/${runId}/events`);
  const told = [];
  return new Promise((resolve, reject) => {
    source.onopen = () => console.log(JSON.stringify({ run: runId }));
    source.onerror = (event) => (source.close(), reject(new Error(event.message ?? "the stream broke")));
    source.addEventListener("thread.message.delta", (event) =>
      told.push([Number(event.lastEventId), JSON.parse(event.data).delta.content[0].text.value]),
    );
    source.addEventListener("done", () => (source.close(), resolve(told)));
    source.onmessage = (event) => told.push([0, event.data]); // an event without a name: there is none
  });
}

const names = [];
let text = "";
let listening;
const asked = chat();
for await (const { event, data } of run()) {
  names.push(event);
  if (event === "thread.run.created") listening = watched(data.id);
  if (event === "thread.message.delta") text += data.delta.content[0].text.value;
}
console.log(JSON.stringify({ chat: await asked, names, text, watched: await listening }));
