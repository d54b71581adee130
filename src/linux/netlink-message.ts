/**
 * Netlink's messages (RFC 3549 section 2.3.2), in the byte order of x64 and arm64:
 *
 *     | length (4) | type (2) | flags (2) | sequence (4) | port (4) | body … |
 *
 * A body is a fixed struct of the message's type, and attributes:
 *
 *     | length (2) | type (2) | value … |
 *
 * Lengths are those of the whole, in bytes. The next one begins at a multiple of four.
 */

const HEADER_BYTES = 16;
const ATTRIBUTE_HEADER_BYTES = 4;
/** The two highest bits are flags: nested, and in network byte order. */
const ATTRIBUTE_TYPE_MASK = 0x3fff;
const NLA_F_NESTED = 0x8000;
/** The length has 16 bits. */
const ATTRIBUTE_BYTES_MAX = 0xffff;

export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly body: DataView<ArrayBuffer>;
}

export function encodeNetlinkMessage(
  message: Omit<NetlinkMessage, 'body'> & { readonly body: Uint8Array },
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(HEADER_BYTES + message.body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint16(4, message.type, true);
  view.setUint16(6, message.flags, true);
  view.setUint32(8, message.sequence, true);
  bytes.set(message.body, HEADER_BYTES);
  return bytes;
}

/** @returns undefined when a length does not fit what is there */
export function decodeNetlinkMessages(
  bytes: Uint8Array<ArrayBuffer>,
): readonly NetlinkMessage[] | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const messages: NetlinkMessage[] = [];
  for (let at = 0; at < view.byteLength; ) {
    const left = view.byteLength - at;
    if (left < HEADER_BYTES) return undefined;
    const length = view.getUint32(at, true);
    if (length < HEADER_BYTES || length > left) return undefined;
    messages.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      body: partOf(view, at + HEADER_BYTES, at + length),
    });
    at += padded(length);
  }
  return messages;
}

/**
 * @param structBytes of the fixed struct before the attributes
 * @returns values by their types, of which the last one counts; undefined when a length does not
 *   fit what is there
 */
export function decodeNetlinkAttributes(
  body: DataView<ArrayBuffer>,
  structBytes: number,
): ReadonlyMap<number, DataView<ArrayBuffer>> | undefined {
  if (body.byteLength < structBytes) return undefined;
  const values = new Map<number, DataView<ArrayBuffer>>();
  for (let at = padded(structBytes); at < body.byteLength; ) {
    const left = body.byteLength - at;
    if (left < ATTRIBUTE_HEADER_BYTES) return undefined;
    const length = body.getUint16(at, true);
    if (length < ATTRIBUTE_HEADER_BYTES || length > left) return undefined;
    const type = body.getUint16(at + 2, true) & ATTRIBUTE_TYPE_MASK;
    values.set(type, partOf(body, at + ATTRIBUTE_HEADER_BYTES, at + length));
    at += padded(length);
  }
  return values;
}

export interface NetlinkAttribute {
  readonly type: number;
  /** Bytes, or attributes within. */
  readonly value: Uint8Array | readonly NetlinkAttribute[];
}

/** @throws RangeError for a value beyond 64 KiB */
export function encodeNetlinkAttributes(
  attributes: readonly NetlinkAttribute[],
): Uint8Array<ArrayBuffer> {
  const parts = attributes.map(({ type, value }) => {
    const isNested = !(value instanceof Uint8Array);
    const bytes = isNested ? encodeNetlinkAttributes(value) : value;
    return { type: isNested ? type | NLA_F_NESTED : type, bytes };
  });
  const sizeOf = (bytes: Uint8Array) => padded(ATTRIBUTE_HEADER_BYTES + bytes.length);
  const encoded = new Uint8Array(parts.reduce((sum, { bytes }) => sum + sizeOf(bytes), 0));
  const view = new DataView(encoded.buffer);
  let at = 0;
  for (const { type, bytes } of parts) {
    const length = ATTRIBUTE_HEADER_BYTES + bytes.length;
    if (length > ATTRIBUTE_BYTES_MAX) throw new RangeError(`an attribute of ${length} bytes`);
    view.setUint16(at, length, true);
    view.setUint16(at + 2, type, true);
    encoded.set(bytes, at + ATTRIBUTE_HEADER_BYTES);
    at += sizeOf(bytes);
  }
  return encoded;
}

function partOf(view: DataView<ArrayBuffer>, from: number, to: number): DataView<ArrayBuffer> {
  return new DataView(view.buffer, view.byteOffset + from, to - from);
}

/** Not by bits: a length may have 32 of them. */
function padded(lengthBytes: number): number {
  return Math.ceil(lengthBytes / 4) * 4;
}
