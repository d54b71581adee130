/** Just enough Markdown for the checks: blocks with their lines, links, code, headings. */

export type BlockKind = 'heading' | 'row' | 'fence' | 'text';

/** A heading, a table row, one line of a code fence, or the lines of a paragraph or list item. */
export interface Block {
  readonly kind: BlockKind;
  /** Without the marks of a heading; the lines of a paragraph joined by line feeds. */
  readonly text: string;
  readonly line: number;
  /** The headings above it, outermost first; a heading's own text is its last. */
  readonly section: readonly string[];
}

export interface Link {
  readonly target: string;
  readonly line: number;
}

export interface CodeSpan {
  readonly text: string;
  readonly line: number;
}

export function blocksOf(markdown: string): Block[] {
  const blocks: Block[] = [];
  const section: { depth: number; text: string }[] = [];
  let fence: string | undefined;
  let open: { text: string; line: number } | undefined;
  const add = (kind: BlockKind, text: string, line: number) => {
    blocks.push({ kind, text, line, section: section.map((heading) => heading.text) });
  };
  const close = () => {
    if (open !== undefined) add('text', open.text, open.line);
    open = undefined;
  };
  for (const [index, written] of markdown.split('\n').entries()) {
    const line = index + 1;
    const mark = /^\s*(```+|~~~+)/.exec(written)?.[1];
    if (fence !== undefined) {
      if (mark?.startsWith(fence)) fence = undefined;
      else add('fence', written, line);
      continue;
    }
    const heading = /^(#{1,6})\s+(.*?)\s*#*$/.exec(written);
    const isRow = /^\s*\|/.test(written);
    if (mark || heading || isRow || written.trim() === '' || isListItem(written)) close();
    if (mark) {
      fence = mark;
    } else if (heading) {
      const depth = heading[1]?.length ?? 1;
      while ((section.at(-1)?.depth ?? 0) >= depth) section.pop();
      section.push({ depth, text: heading[2] ?? '' });
      add('heading', heading[2] ?? '', line);
    } else if (isRow) {
      add('row', written, line);
    } else if (written.trim() !== '') {
      open =
        open === undefined
          ? { text: written, line }
          : { ...open, text: `${open.text}\n${written}` };
    }
  }
  close();
  return blocks;
}

/** Links and images, inline or by reference, that are not inside code. */
export function linksOf(blocks: readonly Block[]): Link[] {
  return outsideFences(blocks).flatMap(({ text, line }) => {
    const prose = text.replaceAll(/`[^`\n]*`/g, (code) => ' '.repeat(code.length));
    const inline = /\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)/g;
    const references = /^\s*\[[^\]]+\]:\s*<?(\S+?)>?\s*$/gm;
    return [...prose.matchAll(inline), ...prose.matchAll(references)].map((match) => ({
      target: match[1] ?? '',
      line: line + linesBefore(prose, match.index),
    }));
  });
}

/** Text in backticks outside of code fences. */
export function codeSpansOf(block: Block): CodeSpan[] {
  if (block.kind === 'fence') return [];
  return [...block.text.matchAll(/`([^`]+)`/g)].map((match) => ({
    text: match[1] ?? '',
    line: block.line + linesBefore(block.text, match.index),
  }));
}

/** The anchors of a page's headings, as GitHub makes them. */
export function anchorsOf(blocks: readonly Block[]): Set<string> {
  const anchors = new Set<string>();
  for (const { kind, text } of blocks) {
    if (kind !== 'heading') continue;
    const anchor = text
      .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(/\s/g, '-');
    let unique = anchor;
    for (let count = 1; anchors.has(unique); count++) unique = `${anchor}-${count}`;
    anchors.add(unique);
  }
  return anchors;
}

function outsideFences(blocks: readonly Block[]): Block[] {
  return blocks.filter(({ kind }) => kind !== 'fence');
}

function isListItem(line: string): boolean {
  return /^\s*([-*+]|\d+[.)])\s/.test(line);
}

function linesBefore(text: string, index: number): number {
  return text.slice(0, index).split('\n').length - 1;
}
