/**
 * Our table as a value that can be compared: made of what nft lists, or of what was applied, always
 * without handles and counts.
 */
import type { JsonObject, JsonValue, NftDocument, SetsInPlace } from './nft-document.ts';
import { TABLE_FAMILY, TABLE_NAME } from './ruleset.ts';

export interface NftTable {
  /** Whether the table has flags, `dormant` among them; ours has none. */
  readonly hasFlags: boolean;
  readonly chains: readonly NftTableChain[];
  /** In the kernel's order within each chain. */
  readonly rules: readonly NftTableRule[];
  readonly sets: readonly NftTableSet[];
  /** Maps, counters and other objects, of which our table has none: `map routes`. */
  readonly otherObjects: readonly string[];
}

export interface NftTableChain {
  readonly name: string;
  /** Type, hook, priority and policy, as one text. */
  readonly hook: string;
}

export interface NftTableSet {
  readonly name: string;
  readonly type: string;
  /** Type, flags and whatever else it has, as JSON with sorted keys. */
  readonly kind: string;
  /** As nft writes them: `192.0.2.1`, `10.0.0.0/8`. */
  readonly elements: ReadonlySet<string>;
}

export interface NftTableRule {
  readonly chain: string;
  readonly comment: string | undefined;
  /** The expressions as JSON with sorted keys and sorted sets. */
  readonly expression: string;
}

/** What a listing shows after this document was applied to no table or by replacing the table. */
export function expectedTable(document: NftDocument): NftTable {
  const added = document.nftables.flatMap((command) =>
    'add' in command ? [command.add as unknown as JsonObject] : [],
  );
  return tableOf(added);
}

/** What the table's sets have, for the document that comes next. */
export function setsInPlace({ sets }: NftTable): SetsInPlace {
  const families: ReadonlyMap<string, 4 | 6> = new Map([
    ['ipv4_addr', 4],
    ['ipv6_addr', 6],
  ]);
  return new Map(
    sets.flatMap(({ name, type, elements }) => {
      const family = families.get(type);
      return family === undefined ? [] : [[name, { family, elements }]];
    }),
  );
}

/**
 * Reads what `nft -j list table inet gatehouse` prints.
 *
 * @throws SyntaxError when it is no listing
 */
export function parseListing(text: string): NftTable {
  const listing: unknown = JSON.parse(text);
  const objects = isObject(listing) ? listing['nftables'] : undefined;
  if (!Array.isArray(objects)) throw new SyntaxError('nft printed JSON without "nftables"');
  return tableOf(objects.filter(isObject));
}

function tableOf(objects: readonly JsonObject[]): NftTable {
  const chains = new Map<string, NftTableChain>();
  const rules: NftTableRule[] = [];
  const sets = new Map<string, NftTableSet & { readonly elements: Set<string> }>();
  const otherObjects: string[] = [];
  let hasFlags = false;
  for (const object of objects) {
    const [kind = '', body] = Object.entries(object)[0] ?? [];
    if (kind === 'metainfo' || !isObject(body) || !isInTable(kind, body)) continue;
    if (kind === 'table') hasFlags ||= body['flags'] !== undefined;
    else if (kind === 'chain') chains.set(String(body['name']), chainOf(body));
    else if (kind === 'rule') rules.push(ruleOf(body));
    else if (kind === 'set') sets.set(String(body['name']), setOf(body));
    else if (kind === 'element') {
      const elements = sets.get(String(body['name']))?.elements;
      for (const element of elementsOf(body)) elements?.add(element);
    } else otherObjects.push(`${kind} ${body['name'] ?? body['handle'] ?? ''}`.trim());
  }
  return { hasFlags, chains: [...chains.values()], rules, sets: [...sets.values()], otherObjects };
}

function setOf(body: JsonObject) {
  const { family, table, name, handle, elem, ...kind } = body;
  return {
    name: String(name),
    type: String(kind['type']),
    kind: JSON.stringify(normalised(kind)),
    elements: new Set(elementsOf(body)),
  };
}

function elementsOf({ elem }: JsonObject): string[] {
  return Array.isArray(elem) ? elem.map(elementText) : [];
}

/** One with a timeout, a comment or a counter is an object of another form. */
function elementText(element: JsonValue): string {
  if (typeof element === 'string') return element;
  const prefix = isObject(element) ? element['prefix'] : undefined;
  if (isObject(prefix)) return `${prefix['addr']}/${prefix['len']}`;
  return JSON.stringify(normalised(element));
}

function isInTable(kind: string, body: JsonObject): boolean {
  const name = kind === 'table' ? body['name'] : body['table'];
  return body['family'] === TABLE_FAMILY && name === TABLE_NAME;
}

function chainOf(body: JsonObject): NftTableChain {
  const { type, hook, prio, policy } = body as { readonly [key: string]: JsonValue | undefined };
  const place =
    hook === undefined ? '' : `type ${type} hook ${hook} priority ${prio}; policy ${policy}`;
  return { name: String(body['name']), hook: place };
}

function ruleOf(body: JsonObject): NftTableRule {
  const { chain, comment, expr } = body as { readonly [key: string]: JsonValue | undefined };
  return {
    chain: String(chain),
    comment: comment === undefined ? undefined : String(comment),
    expression: JSON.stringify(normalised(expr ?? null)),
  };
}

function normalised(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(normalised);
  if (!isObject(value)) return value;
  const entries = Object.entries(value)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, inner]): [string, JsonValue] => {
      if (key === 'counter') return [key, null];
      if (key === 'set' && Array.isArray(inner)) return [key, sortedSet(inner)];
      return [key, normalised(inner)];
    });
  return Object.fromEntries(entries);
}

/** The kernel keeps the elements in its own order. */
function sortedSet(elements: readonly JsonValue[]): JsonValue {
  const texts = elements.map((element) => JSON.stringify(normalised(element))).sort();
  return texts.map((text): JsonValue => JSON.parse(text));
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
