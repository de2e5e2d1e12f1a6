// What the server knows of settings and parameters: made from its own tables by tools/page_parameters.py.

import type { Values } from "../../api/types";
import { parameters, settings } from "./known.json";

export interface Known {
  name: string;
  title: string;
  group: string;
  type: string;
  help: string;
  default: unknown;
  /** What it comes to where nobody says anything and there is no default. */
  otherwise?: string;
  range?: number[];
  choices?: string[];
}

export const PARAMETERS: Known[] = parameters;
export const SETTINGS: Known[] = settings;

/** Somebody who may say a value: `label` as in "from the model". */
export interface Layer {
  label: string;
  values: Values;
}

/** What holds: the value of the first layer that says one, and which that is; null where none does. */
export function holding(known: Known, layers: Layer[]): { value: unknown; from: Layer | null } {
  const from = layers.find((layer) => isSaid(layer.values[known.name])) ?? null;
  return { value: from === null ? known.default : from.values[known.name], from };
}

export function isSaid(value: unknown): boolean {
  return value !== undefined && value !== null;
}

/** The groups of `known`, in order, each with its own. */
export function grouped(known: Known[]): [string, Known[]][] {
  const groups = new Map<string, Known[]>();
  for (const one of known) groups.set(one.group, [...(groups.get(one.group) ?? []), one]);
  return [...groups];
}
