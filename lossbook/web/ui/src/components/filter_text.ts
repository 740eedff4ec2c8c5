// Parses a filter expression while it is typed: completions for names, and whether it looks finished.

const MOST = 8;
const WORDS = new Set(["and", "or", "not", "in", "is", "null", "like", "ilike", "contains", "true", "false"]);

/** The name that is being written before the caret, and how the expression would go on. */
export function completions(text: string, caret: number, names: readonly string[]): { from: number; found: string[] } {
  const before = text.slice(0, caret);
  const word = /[A-Za-z_][\w./@-]*$/.exec(before)?.[0] ?? "";
  const quotes = (before.match(/'/g)?.length ?? 0) + (before.match(/"/g)?.length ?? 0);
  if (word === "" || quotes % 2 === 1 || WORDS.has(word.toLowerCase())) return { from: caret, found: [] };
  const lower = word.toLowerCase();
  const begin: string[] = [];
  const inside: string[] = [];
  for (const name of names) {
    const at = name.toLowerCase().indexOf(lower);
    if (at === 0 || name.toLowerCase().startsWith(`config.${lower}`)) begin.push(name);
    else if (at > 0) inside.push(name);
    if (begin.length >= MOST) break;
  }
  const found = [...begin, ...inside].slice(0, MOST);
  return { from: caret - word.length, found: found.length === 1 && found[0] === word ? [] : found };
}

/** As the language has it: what is no plain name stands between backticks. */
export function quoteName(name: string): string {
  return /^[A-Za-z_][\w./@-]*$/.test(name) ? name : `\`${name}\``;
}

/** Whether an expression looks whole: nothing is left open, and its end asks for nothing more. */
export function isComplete(where: string): boolean {
  // What stands between quotes is text, whatever it looks like.
  const bare = where.replace(/'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`/g, "x");
  if (/['"`]/.test(bare) || /([=<>!,(+*/%-]|\b(and|or|not|in|is|like|ilike|contains))\s*$/i.test(bare)) return false;
  if ((bare.match(/\(/g)?.length ?? 0) !== (bare.match(/\)/g)?.length ?? 0)) return false;
  // A name alone is the beginning of a comparison, after `and` as well.
  return bare.split(/\b(?:and|or)\b/i).every((part) => /[=<>]|\b(in|is|like|ilike|contains)\b/i.test(part));
}
