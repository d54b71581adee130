/**
 * Text on its way to people. Whatever it holds, a terminal obeys none of it: authors, words of
 * roles, files and rules come from strangers.
 */

/**
 * Controls, format characters (which turn the direction of writing, or show nothing), separators of
 * lines that are not line feeds, and what is no character.
 */
const dangerous = /[\p{C}\p{Zl}\p{Zp}]/gu;

/** Letters of every language stay; what is not printable becomes `\u001b`. Line feeds too. */
export function escapeLine(text: string): string {
  return text.replace(dangerous, (character) => (character === '\t' ? '\t' : escaped(character)));
}

/** The lines of a text that was meant to have some. */
export function linesOf(text: string): string[] {
  return (text.endsWith('\n') ? text.slice(0, -1) : text).split('\n');
}

/**
 * JSON that holds nothing a terminal would obey, and that reads as the same value.
 *
 * @param options.indented over several lines
 */
export function escapeJson(value: unknown, options: { readonly indented: boolean }): string {
  const text = JSON.stringify(value, undefined, options.indented ? 2 : undefined);
  return text.replace(dangerous, (character) => {
    if (character === '\n') return character;
    return Array.from({ length: character.length }, (_, index) =>
      unicodeEscape(character.charCodeAt(index)),
    ).join('');
  });
}

/** Columns as wide as their widest cell; the last one is not filled up. */
export function alignColumns(rows: readonly (readonly string[])[]): string[] {
  const cells = rows.map((row) => row.map(escapeLine));
  const widths: number[] = [];
  for (const row of cells) {
    for (const [index, cell] of row.entries()) {
      widths[index] = Math.max(widths[index] ?? 0, widthOf(cell));
    }
  }
  return cells.map((row) =>
    row
      .map((cell, index) => cell + ' '.repeat((widths[index] ?? 0) - widthOf(cell)))
      .join('  ')
      .trimEnd(),
  );
}

/** Breaks a paragraph between words. Longer words stay whole. */
export function wrapText(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}

/** As people say it: the two largest units. Up to two minutes in seconds. */
export function spanInWords(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  if (seconds <= 120) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** At most four characters: `999`, `1.2K`, `57M`. A K is a thousand. */
export function bytesInWords(count: number): string {
  let value = count;
  let unit = '';
  for (const next of ['K', 'M', 'G', 'T', 'P']) {
    if (value < 999.5) break;
    value /= 1000;
    unit = next;
  }
  const isShort = unit !== '' && value < 9.95;
  return `${isShort ? value.toFixed(1) : Math.round(value)}${unit}`;
}

/** By ISO 8601, in UTC, to the second. @param milliseconds since 1970, from a clock that may err */
export function instantInWords(milliseconds: number): string {
  const date = new Date(milliseconds);
  if (Number.isNaN(date.getTime())) return 'unknown time';
  return date.toISOString().replace(/\.\d{3}Z$/, 'Z');
}

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return code > 0xffff ? `\\u{${code.toString(16)}}` : unicodeEscape(code);
}

function unicodeEscape(code: number): string {
  return `\\u${code.toString(16).padStart(4, '0')}`;
}

/** Characters, not units of UTF-16. */
function widthOf(text: string): number {
  return [...text].length;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
