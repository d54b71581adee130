/**
 * The kinds of text that values of the config are written in. One row a format: the schema names
 * it, the reader asks it, the reference explains it.
 */
import { parseAddressRange } from '../net/address-range.ts';
import { parseBandwidth } from '../net/bandwidth.ts';
import { parseDnsUpstream } from '../net/dns-upstream.ts';
import { parseDomainName } from '../net/domain-name.ts';
import { parseDuration } from '../net/duration.ts';
import { parseEndpoint } from '../net/endpoint.ts';
import { parseIpAddress } from '../net/ip-address.ts';
import { parseIpv4Address } from '../net/ipv4-address.ts';
import { parseMacAddress } from '../net/mac-address.ts';
import { parsePortRange } from '../net/port-range.ts';
import { parseInterfaceAddress, parsePrefix } from '../net/prefix.ts';
import { parseTableReference } from '../net/table-reference.ts';
import { parseTimeOfDay } from '../net/time-of-day.ts';

export interface TextFormat {
  /** As a phrase of a message: "a duration". */
  readonly means: string;
  /** A text that is right, for messages and the reference. */
  readonly example: string;
  /** What JSON Schema can say of it: necessary, not sufficient. */
  readonly pattern: string;
  /** UTF-16 code units. */
  readonly lengthMax: number;
  /** The judgement. Anything but undefined means that the text is right. */
  parse(text: string): unknown;
  /** For formats that have limits: a number that grows with the value. */
  measure?(text: string): number | undefined;
}

const octets = '[0-9]{1,3}(\\.[0-9]{1,3}){3}';
const address = '[0-9A-Fa-f:.]{2,45}';
/** At most 15 bytes, as the kernel has it; nothing that nft or a shell would expand. */
const interfaceName = /^[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,14}$/;
/** PATH_MAX is 4096 with the final zero; names behind the folder need room. */
const PATH_LENGTH_MAX = 1024;
const pathCharacters = "[A-Za-z0-9_.,:@+~ '()=-]";
/** As src/firewall/rule-comment.ts asks. */
const COMMENT_BYTES_MAX = 64;

export const textFormats = {
  // Not `duration`, which JSON Schema takes for ISO 8601 (`PT12H`).
  'time-span': {
    means: 'a duration: one number with ms, s, m, h, d or w',
    example: '12h',
    pattern: '^(0|[1-9][0-9]{0,15})(ms|[smhdw])$',
    lengthMax: 18,
    parse: parseDuration,
    measure: parseDuration,
  },
  bandwidth: {
    means: 'a bandwidth in bit/s, kbit/s, Mbit/s, Gbit/s or Tbit/s',
    example: '1Gbit/s',
    pattern: '^[0-9]{1,15}(\\.[0-9]{1,3})?[TGMk]?bit/s$',
    lengthMax: 25,
    parse: parseBandwidth,
    measure: parseBandwidth,
  },
  'ipv4-address': {
    means: 'an IPv4 address',
    example: '198.51.100.254',
    pattern: `^${octets}$`,
    lengthMax: 15,
    parse: parseIpv4Address,
  },
  'ip-address': {
    means: 'an IPv4 or IPv6 address',
    example: '203.0.113.1',
    pattern: `^${address}$`,
    lengthMax: 45,
    parse: parseIpAddress,
  },
  'ipv4-interface-address': {
    means: 'an IPv4 address with the length of its network',
    example: '10.77.0.1/24',
    pattern: `^${octets}/[0-9]{1,2}$`,
    lengthMax: 18,
    parse: (text) => (text.includes(':') ? undefined : parseInterfaceAddress(text)),
  },
  prefix: {
    means: 'a prefix (no bits set behind its length) or an address',
    example: '192.0.2.0/24',
    pattern: `^${address}(/[0-9]{1,3})?$`,
    lengthMax: 49,
    parse: parsePrefix,
  },
  'prefix-or-table': {
    means: 'a prefix, an address, or `@` and the name of a table',
    example: '@blocked',
    pattern: `^(@[A-Za-z_][A-Za-z0-9_]{0,31}|${address}(/[0-9]{1,3})?)$`,
    lengthMax: 49,
    parse: (text) => parseTableReference(text) ?? parsePrefix(text),
  },
  'ipv4-range': {
    means: 'the first and the last of some IPv4 addresses',
    example: '10.77.0.100-10.77.0.199',
    pattern: `^${octets}-${octets}$`,
    lengthMax: 31,
    parse: (text) => (text.includes(':') ? undefined : parseAddressRange(text)),
  },
  'ipv4-endpoint': {
    means: 'an IPv4 address with a port',
    example: '10.77.0.20:80',
    pattern: `^${octets}:[0-9]{1,5}$`,
    lengthMax: 21,
    parse: (text) => (text.startsWith('[') ? undefined : parseEndpoint(text)),
  },
  endpoint: {
    means: 'an address with a port; IPv6 in brackets',
    example: '10.77.0.1:8443',
    pattern: `^(${octets}|\\[${address}\\]):[0-9]{1,5}$`,
    lengthMax: 53,
    parse: parseEndpoint,
  },
  'port-range': {
    means: 'a port from 1 to 65535, or the first and the last of some',
    example: '6000-6063',
    pattern: '^[0-9]{1,5}(-[0-9]{1,5})?$',
    lengthMax: 11,
    parse: parsePortRange,
  },
  'dns-upstream': {
    means: 'a resolver: an address, `tls://HOST` or `https://HOST/PATH`',
    example: 'tls://dns.example.net',
    pattern: '^[!-~]{2,300}$',
    lengthMax: 300,
    parse: parseDnsUpstream,
  },
  'domain-name': {
    means: 'a domain: letters, digits and hyphens between dots',
    example: 'lan',
    pattern: '^[A-Za-z0-9.-]{1,253}$',
    lengthMax: 253,
    parse: parseDomainName,
  },
  'mac-address': {
    means: 'a link-layer address: six pairs of hexadecimal digits',
    example: '02:00:00:00:00:01',
    pattern: '^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$',
    lengthMax: 17,
    parse: parseMacAddress,
  },
  'time-of-day': {
    means: 'a time from 00:00 to 23:59',
    example: '18:00',
    pattern: '^[0-2][0-9]:[0-5][0-9]$',
    lengthMax: 5,
    parse: parseTimeOfDay,
  },
  'interface-name': {
    means: 'the name of an interface: at most 15 letters, digits and _ . : @ -',
    example: 'lan0',
    pattern: '^[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,14}$',
    lengthMax: 15,
    parse: (text) => (interfaceName.test(text) ? text : undefined),
  },
  folder: {
    means: 'an absolute path without `..`',
    example: '/var/lib/gatehouse',
    pattern: `^(/${pathCharacters}{1,255})+$`,
    lengthMax: PATH_LENGTH_MAX,
    parse: (text) => (text.startsWith('/') ? pathOf(text.slice(1)) : undefined),
  },
  file: {
    means: 'the path of a file without `..`; a relative one starts at the config file',
    example: 'keys.json',
    pattern: `^/?${pathCharacters}{1,255}(/${pathCharacters}{1,255})*$`,
    lengthMax: PATH_LENGTH_MAX,
    parse: (text) => pathOf(text.replace(/^\//, '')),
  },
  comment: {
    means: `1 to ${COMMENT_BYTES_MAX} bytes of printable text without \`"\` and \`\\\``,
    example: 'homework first',
    pattern: '^[^\\x00-\\x1f\\x7f-\\x9f"\\\\]+$',
    lengthMax: COMMENT_BYTES_MAX,
    parse: (text) => (isComment(text) ? text : undefined),
  },
} as const satisfies Readonly<Record<string, TextFormat>>;

export type TextFormatName = keyof typeof textFormats;

/** @returns undefined for a name that is none of ours */
export function textFormatOf(name: unknown): TextFormat | undefined {
  if (typeof name !== 'string' || !Object.hasOwn(textFormats, name)) return undefined;
  return textFormats[name as TextFormatName];
}

/** @param text without the `/` in front of an absolute path */
function pathOf(text: string): string | undefined {
  const names = text.split('/');
  const plain = new RegExp(`^${pathCharacters}{1,255}$`);
  const isPlain = (name: string) => plain.test(name) && name !== '.' && name !== '..';
  return names.every(isPlain) && text.length < PATH_LENGTH_MAX ? text : undefined;
}

function isComment(text: string): boolean {
  if (!/^[^\p{C}\p{Zl}\p{Zp}"\\]+$/u.test(text)) return false;
  let bytes = 0;
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x1_0000 ? 3 : 4;
  }
  return bytes <= COMMENT_BYTES_MAX;
}
