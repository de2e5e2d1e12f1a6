// What the AI SDK does with tools and structured output. What it is told and tells: see ../report.py.
// node drive.mjs BASE_URL MODEL TALK
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, Output, stepCountIs, streamObject, streamText, tool } from "ai";
import { readFileSync } from "node:fs";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false; // they go to standard output
const [baseURL, name, talkText] = process.argv.slice(2);
const talk = JSON.parse(talkText);
const provider = { name: "janflask", baseURL, apiKey: "none", includeUsage: true };
const model = createOpenAICompatible({ ...provider, supportsStructuredOutputs: true })(name);
const plain = createOpenAICompatible(provider)(name); // asks for json_object
const given = { model, temperature: 0, maxOutputTokens: 100, maxRetries: 0 };

// The earlier turn as the AI SDK keeps it.
const [asked, called, result, answered] = talk.earlier;
const { id: toolCallId, function: { name: toolName, arguments: input } } = called.tool_calls[0];
const output = { type: "text", value: result.content };
const messages = [
  asked,
  { role: "assistant", content: [{ type: "tool-call", toolCallId, toolName, input: JSON.parse(input) }] },
  { role: "tool", content: [{ type: "tool-result", toolCallId, toolName, output }] },
  answered,
  { role: "user", content: talk.question },
];
const tools = {
  get_weather: tool({
    description: "The weather of a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => talk.weather[city] ?? "unknown",
  }),
};
const auto = { ...given, tools, messages, stopWhen: stepCountIs(3) };
const first = (toolChoice) => ({ ...auto, prepareStep: ({ stepNumber }) => (stepNumber ? {} : { toolChoice }) });
const City = z.object({ name: z.string().max(20), country: z.string().max(20) });
const Weather = z.object({ city: z.string().max(20), weather: z.string().max(40) });
const describe = { ...given, schema: City, prompt: talk.describe };

async function told({ steps, text }) {
  const all = await steps;
  const calls = all.flatMap((step) => step.toolCalls).map((call) => [call.toolName, call.input]);
  return { calls, answer: await text, ends: all.map((step) => step.finishReason) };
}

const loop = async (given) => told(await generateText(given));

async function streamed(given) {
  const errors = [];
  const result = streamText({ ...given, onError: ({ error }) => errors.push(error) });
  let pieces = 0;
  for await (const part of result.fullStream) if (part.type === "text-delta") pieces++;
  if (errors.length) throw errors[0];
  return { ...(await told(result)), pieces };
}

async function streamedObject(given) {
  const errors = [];
  const result = streamObject({ ...given, onError: ({ error }) => errors.push(error) });
  for await (const _ of result.partialObjectStream);
  if (errors.length) throw errors[0];
  return result.object;
}

// A tool and a form for the answer in one request.
async function toolAndObject() {
  const { steps, output } = await generateText({ ...first("required"), output: Output.object({ schema: Weather }) });
  return { calls: steps.flatMap((step) => step.toolCalls).map((call) => [call.toolName, call.input]), answer: output };
}

const items = {
  loop: () => loop(auto),
  "loop, streamed": () => streamed(auto),
  required: () => loop(first("required")),
  "required, streamed": () => streamed(first("required")),
  named: () => loop(first({ type: "tool", toolName: "get_weather" })),
  "object, schema": async () => (await generateObject(describe)).object,
  "object, schema, streamed": () => streamedObject(describe),
  "object, json_object": async () => (await generateObject({ ...describe, model: plain })).object,
  "tool and object": toolAndObject,
};
const done = {};
for (const [name, item] of Object.entries(items)) {
  done[name] = await item().catch((error) => ({ error: `${error.name}: ${error.message}` }));
}
const { version } = JSON.parse(readFileSync(new URL("node_modules/ai/package.json", import.meta.url)));
console.log(JSON.stringify({ version, items: done }));
