/** Finds the smallest stretches of a text to replace so that its tree gets another value. */
import {
  isList,
  isPlainObject,
  isSameValue,
  type PlainObject,
  type PlainValue,
} from './plain-value.ts';
import {
  INDENT_COLUMNS,
  renderAfterKey,
  renderBlock,
  renderFlow,
  renderItem,
  renderKey,
  renderScalar,
} from './render-value.ts';
import {
  entryOf,
  type ListNode,
  type MappingEntry,
  type MappingNode,
  plainValueOf,
  type ScalarNode,
  type SourceNode,
  type SourceTree,
  type TextRange,
} from './source-tree.ts';

/** A stretch of the text, and what stands there instead. */
export interface Splice extends TextRange {
  readonly text: string;
}

/** @param splices do not overlap */
export function applySplices(text: string, splices: readonly Splice[]): string {
  let result = '';
  let done = 0;
  for (const splice of [...splices].sort((a, b) => a.start - b.start || a.end - b.end)) {
    result += text.slice(done, splice.start) + splice.text;
    done = splice.end;
  }
  return result + text.slice(done);
}

/** How a node is held by what it stands in. */
type Holder =
  | { readonly kind: 'root' }
  | { readonly kind: 'entry'; readonly entry: MappingEntry; readonly parent: MappingNode }
  | { readonly kind: 'item'; readonly parent: ListNode };

export class TreeSplicer {
  readonly splices: Splice[] = [];
  private readonly text: string;
  private readonly lineBreak: string;
  private readonly root: SourceNode;

  constructor(tree: SourceTree) {
    this.text = tree.text;
    this.root = tree.root;
    this.lineBreak = tree.text.includes('\r\n') ? '\r\n' : '\n';
  }

  replaceRoot(value: PlainValue): void {
    this.replace(this.root, value, { kind: 'root' });
  }

  private replace(node: SourceNode, value: PlainValue, holder: Holder): void {
    if (isSameValue(plainValueOf(node), value)) return;
    if (node.kind === 'mapping' && isPlainObject(value)) {
      const kept = node.entries.filter(({ key }) => Object.hasOwn(value, key));
      if (kept.length > 0 && this.replaceEntries(node, value, kept)) return;
    }
    if (node.kind === 'list' && isList(value) && value.length > 0 && node.items.length > 0) {
      if (this.replaceItems(node, value)) return;
    }
    this.replaceWhole(node, value, holder);
  }

  /** @returns false where the entries are written in a way that none can be taken out of alone */
  private replaceEntries(
    node: MappingNode,
    value: PlainObject,
    kept: readonly MappingEntry[],
  ): boolean {
    const removal = this.removeEntries(node, kept);
    const last = kept.at(-1);
    if (removal === undefined || last === undefined) return false;
    this.splices.push(...removal);
    for (const entry of kept) {
      const inner = value[entry.key];
      if (inner !== undefined)
        this.replace(entry.value, inner, { kind: 'entry', entry, parent: node });
    }
    const added = Object.entries(value).filter(([key]) => entryOf(node, key) === undefined);
    const indent = this.columnOf(node.start);
    const end = this.endOfEntry(last);
    const at = node.isFlow ? end : this.lineEndAfter(end);
    const text = added
      .map(([key, inner]) =>
        node.isFlow
          ? `, ${renderKey(key)}: ${renderFlow(inner)}`
          : `${this.lineBreak}${' '.repeat(indent)}${renderKey(key)}:` +
            renderAfterKey(inner, indent, this.lineBreak),
      )
      .join('');
    if (text !== '') this.splices.push({ start: at, end: at, text });
    return true;
  }

  private removeEntries(node: MappingNode, kept: readonly MappingEntry[]): Splice[] | undefined {
    const parts = node.entries.map((entry) => ({
      start: entry.keyRange.start,
      end: this.endOfEntry(entry),
      isKept: kept.includes(entry),
    }));
    return node.isFlow ? removeFromFlow(parts) : this.removeLines(parts);
  }

  /** @returns false as {@link replaceEntries} */
  private replaceItems(node: ListNode, value: readonly PlainValue[]): boolean {
    const { items } = node;
    const same = (left: number, right: number) => {
      const item = items[left];
      return item !== undefined && isSameValue(plainValueOf(item), value[right]);
    };
    const shorter = Math.min(items.length, value.length);
    let head = 0;
    while (head < shorter && same(head, head)) head++;
    let tail = 0;
    while (tail < shorter - head && same(items.length - 1 - tail, value.length - 1 - tail)) tail++;
    const paired = Math.min(items.length, value.length) - tail;
    const parts = items.map((item, index) => ({
      start: node.isFlow ? item.start : this.dashOf(node, item),
      end: this.endOf(item),
      isKept: index < paired || index >= items.length - tail,
    }));
    const removal = node.isFlow ? removeFromFlow(parts) : this.removeLines(parts);
    if (removal === undefined) return false;
    this.splices.push(...removal);
    for (let index = head; index < paired; index++) {
      const item = items[index];
      const inner = value[index];
      if (item === undefined || inner === undefined) continue;
      this.replace(item, inner, { kind: 'item', parent: node });
    }
    this.insertItems(node, paired, value.slice(paired, value.length - tail));
    return true;
  }

  private insertItems(node: ListNode, index: number, added: readonly PlainValue[]): void {
    if (added.length === 0) return;
    const previous = node.items[index - 1];
    const next = node.items[index];
    const indent = this.columnOf(node.start);
    const margin = ' '.repeat(indent);
    const texts = added.map((item) =>
      node.isFlow
        ? renderFlow(item)
        : `- ${renderItem(item, indent + INDENT_COLUMNS, this.lineBreak)}`,
    );
    if (previous !== undefined) {
      const separator = node.isFlow ? ', ' : this.lineBreak + margin;
      const end = this.endOf(previous);
      const at = node.isFlow ? end : this.lineEndAfter(end);
      const text = texts.map((one) => separator + one).join('');
      this.splices.push({ start: at, end: at, text });
    } else if (next !== undefined) {
      const at = node.isFlow ? next.start : node.start;
      const separator = node.isFlow ? ', ' : this.lineBreak + margin;
      this.splices.push({ start: at, end: at, text: texts.map((one) => one + separator).join('') });
    }
  }

  private replaceWhole(node: SourceNode, value: PlainValue, holder: Holder): void {
    const isCollection = isList(value) || isPlainObject(value);
    if (node.kind === 'scalar' && node.source !== '' && !isCollection) {
      const isInFlow = holder.kind !== 'root' && holder.parent.isFlow;
      const text = renderScalar(value, { style: styleOf(node), isInFlow });
      this.splices.push({ start: node.start, end: node.end, text });
    } else if (holder.kind === 'root') this.replaceWholeRoot(node, value);
    else if (holder.parent.isFlow) this.replaceInFlow(node, value, holder);
    else if (holder.kind === 'entry') this.replaceBehindKey(holder.entry, value, holder.parent);
    else {
      const text = renderItem(value, this.columnOf(node.start), this.lineBreak);
      this.splices.push({ start: node.start, end: this.endOf(node), text });
    }
  }

  private replaceWholeRoot(node: SourceNode, value: PlainValue): void {
    const text = renderBlock(value, 0, this.lineBreak);
    const end = this.endOf(node);
    if (end > node.start) this.splices.push({ start: node.start, end, text });
    else {
      const at = this.text.length;
      const isLineOpen = !/(^|\n|\ufeff)$/.test(this.text);
      const before = isLineOpen ? this.lineBreak : '';
      this.splices.push({ start: at, end: at, text: `${before}${text}${this.lineBreak}` });
    }
  }

  private replaceInFlow(node: SourceNode, value: PlainValue, holder: Holder): void {
    const text = renderFlow(value);
    const isEmpty = node.kind === 'scalar' && node.source === '';
    if (!isEmpty || holder.kind !== 'entry') {
      this.splices.push({ start: node.start, end: node.end, text });
      return;
    }
    const end = this.endOfEntry(holder.entry);
    const colon = end === holder.entry.keyRange.end ? ': ' : ' ';
    this.splices.push({ start: end, end, text: colon + text });
  }

  /** From the colon to the end of the old value. A comment on the key's line stays there. */
  private replaceBehindKey(entry: MappingEntry, value: PlainValue, parent: MappingNode): void {
    const start = this.colonAfter(entry) + 1;
    const text = renderAfterKey(value, this.columnOf(parent.start), this.lineBreak);
    const end = this.endOfEntry(entry);
    const lineEnd = this.lineEndAfter(start);
    const isBlock = text.startsWith(this.lineBreak);
    if (entry.value.start <= lineEnd) {
      const after = this.lineEndAfter(end);
      const behind = this.text.slice(end, after).trim();
      if (!isBlock || behind === '') this.splices.push({ start, end, text });
      else {
        this.splices.push({ start, end, text: '' });
        this.splices.push({ start: after, end: after, text });
      }
      return;
    }
    if (isBlock) this.splices.push({ start: lineEnd, end, text });
    else {
      this.splices.push({ start, end: start, text });
      this.splices.push({ start: lineEnd, end: this.lineEndAfter(end), text: '' });
    }
  }

  /** @returns undefined where parts do not begin their lines, as the first one behind `- ` */
  private removeLines(parts: readonly Part[]): Splice[] | undefined {
    const removed = parts.filter(({ isKept }) => !isKept);
    const ranges = removed.map(({ start, end }) => ({
      start: this.lineStartOf(start),
      end: this.nextLineAfter(end),
      margin: this.text.slice(this.lineStartOf(start), start),
    }));
    const areLines = ranges.every(({ margin }) => /^\ufeff? *$/.test(margin));
    return areLines ? ranges.map(({ start, end }) => ({ start, end, text: '' })) : undefined;
  }

  private endOf(node: SourceNode): number {
    if (node.kind === 'scalar' || node.isFlow) return node.end;
    if (node.kind === 'list') {
      const last = node.items.at(-1);
      return last === undefined ? node.end : this.endOf(last);
    }
    const last = node.entries.at(-1);
    return last === undefined ? node.end : this.endOfEntry(last);
  }

  /** An empty value ends with its colon; in braces a key may stand without one. */
  private endOfEntry(entry: MappingEntry): number {
    const { value, keyRange } = entry;
    if (value.kind !== 'scalar' || value.source !== '') return this.endOf(value);
    const colon = this.colonAfter(entry);
    return /^\s*$/.test(this.text.slice(keyRange.end, colon)) && this.text[colon] === ':'
      ? colon + 1
      : keyRange.end;
  }

  private colonAfter({ keyRange }: MappingEntry): number {
    const colon = this.text.indexOf(':', keyRange.end);
    return colon < 0 ? this.text.length : colon;
  }

  /** The `-` of an item: on its own line, or on one above with nothing but comments between. */
  private dashOf(list: ListNode, item: SourceNode): number {
    const column = this.columnOf(list.start);
    for (let at = this.lineStartOf(item.start); at >= 0; at = this.lineStartOf(at - 1)) {
      const isDash = this.text[at + column] === '-';
      if (isDash && this.text.slice(at, at + column).trim() === '') return at + column;
      if (at === 0 || at <= list.start) break;
    }
    return list.start;
  }

  /** A byte order mark takes no column. */
  private columnOf(offset: number): number {
    const start = this.lineStartOf(offset);
    return offset - start - (this.text[start] === '\ufeff' ? 1 : 0);
  }

  private lineStartOf(offset: number): number {
    return offset <= 0 ? 0 : this.text.lastIndexOf('\n', offset - 1) + 1;
  }

  /** In front of the line break, and of its carriage return. */
  private lineEndAfter(offset: number): number {
    const at = this.text.indexOf('\n', offset);
    if (at < 0) return this.text.length;
    return this.text[at - 1] === '\r' && at > offset ? at - 1 : at;
  }

  private nextLineAfter(offset: number): number {
    const at = this.text.indexOf('\n', offset);
    return at < 0 ? this.text.length : at + 1;
  }
}

interface Part extends TextRange {
  readonly isKept: boolean;
}

/** Takes runs of parts out of brackets, each with the comma in front of it or else behind it. */
function removeFromFlow(parts: readonly Part[]): Splice[] {
  const splices: Splice[] = [];
  for (let index = 0; index < parts.length; index++) {
    if (parts[index]?.isKept !== false) continue;
    const first = index;
    while (parts[index + 1]?.isKept === false) index++;
    const before = parts[first - 1];
    const start = before?.end ?? parts[first]?.start ?? 0;
    const end = before === undefined ? parts[index + 1]?.start : parts[index]?.end;
    if (end !== undefined) splices.push({ start, end, text: '' });
  }
  return splices;
}

function styleOf({ source }: ScalarNode): 'plain' | 'single' | 'double' {
  if (source.startsWith("'")) return 'single';
  return source.startsWith('"') ? 'double' : 'plain';
}
