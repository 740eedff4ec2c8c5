// Shows a configuration as a collapsible tree, searchable by path and value; each value's dot path can be copied.

import { useState } from "preact/hooks";

import { value as valueText } from "../format";
import { CopyButton } from "./copy_button";
import { HighlightedText } from "./highlighted_text";

/** So many values are shown before somebody asks for all: a tree of ten thousand would hold up the page. */
const SHOWN_AT_FIRST = 1000;

interface Branch {
  path: string;
  name: string;
  value: unknown;
  children: Branch[] | null; // null: a value
  leaves: number;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function grow(name: string, path: string, value: unknown): Branch {
  if (!isObject(value) || Object.keys(value).length === 0) return { name, path, value, children: null, leaves: 1 };
  const children = Object.entries(value).map(([key, one]) => grow(key, path ? `${path}.${key}` : key, one));
  return { name, path, value, children, leaves: children.reduce((sum, child) => sum + child.leaves, 0) };
}

function fits(text: string, words: readonly string[]): boolean {
  const low = text.toLowerCase();
  return words.every((word) => low.includes(word));
}

/** The part of a tree whose paths or values have all the words. */
function sift(branch: Branch, words: readonly string[]): Branch | null {
  if (words.length === 0) return branch;
  if (branch.children === null)
    return fits(`${branch.path} ${valueText(branch.value)} ${JSON.stringify(branch.value)}`, words) ? branch : null;
  const children = branch.children.map((child) => sift(child, words)).filter((child) => child !== null);
  return children.length === 0
    ? null
    : { ...branch, children, leaves: children.reduce((sum, child) => sum + child.leaves, 0) };
}

/** `find`: show only what has these words. */
export function ValueTree(props: { values: Record<string, unknown>; find: string; nothing: string }) {
  const [all, setAll] = useState(false);
  const whole = grow("", "", props.values);
  const words = props.find
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== "");
  const found = sift(whole, words);
  if (Object.keys(props.values).length === 0) return <p class="soft hint">{props.nothing}</p>;
  if (found === null || found.children === null)
    return <p class="soft hint">Nothing here has “{props.find}” in its name or value.</p>;
  const budget = { left: all ? Infinity : SHOWN_AT_FIRST };
  return (
    <div class="tree">
      <ul>
        {found.children.map((child) => (
          <Twig key={child.path} branch={child} find={words[0] ?? ""} budget={budget} />
        ))}
      </ul>
      {!all && found.leaves > SHOWN_AT_FIRST && (
        <button type="button" onClick={() => setAll(true)}>
          Show all {found.leaves.toLocaleString("en-US")}
        </button>
      )}
    </div>
  );
}

function Twig(props: { branch: Branch; find: string; budget: { left: number } }) {
  const { branch, find, budget } = props;
  if (budget.left <= 0) return null;
  if (branch.children !== null) {
    return (
      <li>
        <details open>
          <summary>
            <span class="mono">
              <HighlightedText text={branch.name} find={find} />
            </span>{" "}
            <span class="soft">{branch.leaves}</span>
          </summary>
          <ul>
            {branch.children.map((child) => (
              <Twig key={child.path} branch={child} find={find} budget={budget} />
            ))}
          </ul>
        </details>
      </li>
    );
  }
  budget.left -= 1;
  // A setting is read to be set again: all its digits are there.
  const exact = typeof branch.value === "string" ? branch.value : JSON.stringify(branch.value);
  const text = typeof branch.value === "number" && !Number.isInteger(branch.value) ? exact : valueText(branch.value);
  return (
    <li class="leaf">
      <span class="mono name" title={branch.path}>
        <HighlightedText text={branch.name} find={find} />
      </span>
      <span class="mono value" title={text.length > 60 ? text.slice(0, 2000) : undefined}>
        <HighlightedText text={text} find={find} />
      </span>
      <span class="acts">
        <CopyButton text={exact} label={`Copy the value of ${branch.path}`} />
        <CopyButton text={branch.path} label={`Copy the path ${branch.path}`}>
          path
        </CopyButton>
      </span>
    </li>
  );
}
