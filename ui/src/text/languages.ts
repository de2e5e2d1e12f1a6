// Who colours code: highlight.js with the languages that models write most. This comes in a file of its own, when it is needed.

import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import cpp from "highlight.js/lib/languages/cpp";
import csharp from "highlight.js/lib/languages/csharp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import dockerfile from "highlight.js/lib/languages/dockerfile";
import go from "highlight.js/lib/languages/go";
import ini from "highlight.js/lib/languages/ini";
import java from "highlight.js/lib/languages/java";
import json from "highlight.js/lib/languages/json";
import kotlin from "highlight.js/lib/languages/kotlin";
import lua from "highlight.js/lib/languages/lua";
import makefile from "highlight.js/lib/languages/makefile";
import php from "highlight.js/lib/languages/php";
import python from "highlight.js/lib/languages/python";
import ruby from "highlight.js/lib/languages/ruby";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";

const LANGUAGES = {
  bash,
  cpp,
  csharp,
  css,
  diff,
  dockerfile,
  go,
  ini,
  java,
  json,
  kotlin,
  lua,
  makefile,
  php,
  python,
  ruby,
  rust,
  sql,
  typescript,
  xml,
  yaml,
};
for (const [name, language] of Object.entries(LANGUAGES)) hljs.registerLanguage(name, language);
// What these add to their elders hurts nobody who writes the elder, and saves its grammar.
hljs.registerAliases(["javascript", "js", "jsx", "mjs", "cjs"], { languageName: "typescript" });
hljs.registerAliases(["c", "h"], { languageName: "cpp" });

/** What a stretch of code is ("": nothing in particular), and the stretch. */
export type Piece = readonly [kind: string, text: string];

/** highlight.js tells more apart than colours do. */
const KINDS = {
  comment: "comment quote",
  key: "keyword literal selector-tag doctag section",
  name: "title attr attribute name tag selector-class selector-id type built_in",
  string: "string regexp addition char symbol",
  number: "number variable template-variable meta link bullet",
  gone: "deletion",
};
const KIND_OF = new Map(Object.entries(KINDS).flatMap(([kind, scopes]) => scopes.split(" ").map((scope) => [scope, kind])));

/** What highlight.js sees in code, in order; null for a language that it does not know. */
export function colour(code: string, language: string): Piece[] | null {
  if (hljs.getLanguage(language) === undefined) return null;
  const tree = hljs.highlight(code, { language, ignoreIllegals: true })._emitter as unknown as Tree;
  const pieces: [kind: string, text: string][] = [];
  const kinds = [""];
  tree.walk({
    addText(text) {
      const kind = kinds.at(-1)!;
      const last = pieces.at(-1);
      if (last?.[0] === kind) last[1] += text;
      else pieces.push([kind, text]);
    },
    openNode: ({ scope }) => kinds.push(KIND_OF.get(scope?.split(".")[0] ?? "") ?? kinds.at(-1)!),
    closeNode: () => kinds.pop(),
  });
  return pieces;
}

/** The part of highlight.js' tree of tokens that its own renderers use. */
interface Tree {
  walk(renderer: {
    addText(text: string): void;
    openNode(node: { scope?: string }): void;
    closeNode(): void;
  }): void;
}
