// Writes a table as text: Markdown for a report, CSV for a spreadsheet.

export function asMarkdown(rows: readonly (readonly string[])[]): string {
  const [head = [], ...rest] = rows.map((row) => row.map((cell) => cell.replaceAll("|", "\\|").replace(/\s+/g, " ")));
  const lines = [head, head.map(() => "---"), ...rest];
  return `${lines.map((cells) => `| ${cells.join(" | ")} |`).join("\n")}\n`;
}

export function asCsv(rows: readonly (readonly string[])[]): string {
  const quoted = (cell: string): string => (/[",\n\r]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
  return `${rows.map((row) => row.map(quoted).join(",")).join("\n")}\n`;
}
