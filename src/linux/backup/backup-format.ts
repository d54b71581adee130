/**
 * The file of a backup.
 *
 *     gatehouse-backup 1\n      the magic line, with the version of this format
 *     {"encryption":…}\n        the header: one line of JSON
 *     body
 *     32 bytes                  SHA-256 of everything before them, against accidents
 *
 * The body is the content or, with a passphrase, the content encrypted by AES-256-GCM with the
 * magic line and the header as additional data, and its tag of 16 bytes. The header is then
 *
 *     {"encryption":{"cipher":"aes-256-gcm","nonce":…,"kdf":"scrypt","salt":…,
 *                    "cost":32768,"blockSize":8,"parallelization":3}}
 *
 * and the key is scrypt (RFC 7914) of the passphrase in UTF-8 after normalization to NFC. Salt and
 * nonce are random, 32 and 12 bytes in base64; a key encrypts one backup and nothing else. Other
 * parameters than these are refused, so that no file makes us compute for hours. Without a
 * passphrase the header is `{"encryption":null}`.
 *
 *     4 bytes                   length of the manifest, the highest byte first
 *     manifest                  JSON: what made the backup and when, and its parts in order
 *     parts                     each compressed by zstd (RFC 8878)
 *
 * Nothing in a manifest is a path outside of the config's folder, and every length is known and
 * limited before memory is taken for it.
 */
import { createCipheriv, createDecipheriv, createHash, randomBytes, scryptSync } from 'node:crypto';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import Type, { type Static } from 'typebox';
import { Value } from 'typebox/value';
import { isPartPath } from './part-path.ts';

const FORMAT = 1;
const magicForm = /^gatehouse-backup ([0-9]{1,9})\n/;
const HEADER_BYTES_MAX = 1024;
const MANIFEST_BYTES_MAX = 64 * 1024;
/** Config, journal, and the few files with secrets that a config names. */
const PARTS_MAX = 16;
const DIGEST_BYTES = 32;
const TAG_BYTES = 16;
const KEY_BYTES = 32;

/** RFC 7914; as strong as 2^17, 8, 1, and with 32 MiB possible on a small gateway. */
const scryptParameters = { cost: 32_768, blockSize: 8, parallelization: 3 } as const;
/** 128 · cost · blockSize, and what the library takes besides. */
const SCRYPT_MEMORY_BYTES_MAX = 64 * 1024 * 1024;

/** A part may have this many bytes before it is compressed. */
export const partBytesMax = {
  /** Three bytes for each of the most units of text that a config may have, and some room. */
  config: 8 * 1024 * 1024,
  /** The store's limit of characters, some of them longer than a byte, and a journal's growth. */
  journal: 1024 * 1024 * 1024,
  /** Keys are a few kilobytes. */
  secret: 1024 * 1024,
} as const;

export type PartKind = keyof typeof partBytesMax;

export interface BackupPart {
  readonly kind: PartKind;
  /** For `secret`: the file's path as seen from the folder of the config. */
  readonly path?: string;
  readonly bytes: Uint8Array;
}

export interface BackupContent {
  /** The version of the program that made it. */
  readonly program: string;
  /** ISO 8601, for people. */
  readonly madeAt: string;
  readonly parts: readonly BackupPart[];
}

/** The file is no backup, a damaged or a hostile one, or the passphrase is wrong. */
export class BackupError extends Error {
  override readonly name = 'BackupError';
}

/** @throws BackupError when a part is too large for a backup */
export function encodeBackup(
  content: BackupContent,
  options: { readonly passphrase?: string } = {},
): Buffer {
  const body = encodeContent(content);
  const { passphrase } = options;
  const salt = randomBytes(SALT_BYTES).toString('base64');
  const nonce = randomBytes(NONCE_BYTES).toString('base64');
  const encryption: Encryption | null =
    passphrase === undefined
      ? null
      : { cipher: 'aes-256-gcm', nonce, kdf: 'scrypt', salt, ...scryptParameters };
  const head = Buffer.from(`gatehouse-backup ${FORMAT}\n${JSON.stringify({ encryption })}\n`);
  const sealed =
    passphrase === undefined || encryption === null
      ? body
      : encrypt({ head, body, encryption, passphrase });
  const digest = createHash('sha256').update(head).update(sealed).digest();
  return Buffer.concat([head, sealed, digest]);
}

/**
 * Checks everything before it returns anything.
 *
 * @throws BackupError with a sentence for the person who wants it restored
 */
export function decodeBackup(
  file: Buffer,
  options: { readonly passphrase?: string } = {},
): BackupContent {
  const { head, encryption } = readHead(file);
  const bodyEnd = file.length - DIGEST_BYTES;
  if (bodyEnd < head.length) throw new BackupError('is cut off');
  const digest = createHash('sha256').update(file.subarray(0, bodyEnd)).digest();
  if (!digest.equals(file.subarray(bodyEnd))) {
    throw new BackupError('is damaged or cut off: its checksum is not that of its content');
  }
  const body = file.subarray(head.length, bodyEnd);
  const { passphrase } = options;
  if (encryption === null) {
    if (passphrase !== undefined) {
      throw new BackupError('is not encrypted, so it is not the one of this passphrase');
    }
    return decodeContent(body);
  }
  if (passphrase === undefined) throw new BackupError('is encrypted: give its passphrase');
  return decodeContent(decrypt({ head, body, encryption, passphrase }));
}

const NONCE_BYTES = 12;
const SALT_BYTES = 32;

const strict = { additionalProperties: false } as const;
const encryptionSchema = Type.Object(
  {
    cipher: Type.Literal('aes-256-gcm'),
    nonce: Type.String({ pattern: '^[A-Za-z0-9+/]{16}$' }),
    kdf: Type.Literal('scrypt'),
    salt: Type.String({ pattern: '^[A-Za-z0-9+/]{43}=$' }),
    cost: Type.Literal(scryptParameters.cost),
    blockSize: Type.Literal(scryptParameters.blockSize),
    parallelization: Type.Literal(scryptParameters.parallelization),
  },
  strict,
);
type Encryption = Static<typeof encryptionSchema>;
const headerSchema = Type.Object(
  { encryption: Type.Union([Type.Null(), encryptionSchema]) },
  strict,
);

const Digest = Type.String({ pattern: '^[0-9a-f]{64}$' });
const Length = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const partFields = { bytes: Length, storedBytes: Length, sha256: Digest };
const manifestSchema = Type.Object(
  {
    program: Type.String({ maxLength: 64 }),
    madeAt: Type.String({ maxLength: 32, pattern: '^[0-9TZ:.-]+$' }),
    parts: Type.Array(
      Type.Union([
        Type.Object({ kind: Type.Literal('config'), ...partFields }, strict),
        Type.Object({ kind: Type.Literal('journal'), ...partFields }, strict),
        Type.Object(
          {
            kind: Type.Literal('secret'),
            path: Type.String({ maxLength: 1024 }),
            ...partFields,
          },
          strict,
        ),
      ]),
      { maxItems: PARTS_MAX },
    ),
  },
  strict,
);
type Manifest = Static<typeof manifestSchema>;

function readHead(file: Buffer): { head: Buffer; encryption: Encryption | null } {
  const start = file.toString('latin1', 0, HEADER_BYTES_MAX);
  const [magic, version] = magicForm.exec(start) ?? [];
  if (magic === undefined) throw new BackupError('is no backup of Gatehouse');
  if (Number(version) !== FORMAT) {
    const known = `and this Gatehouse knows ${FORMAT}`;
    throw new BackupError(`has format ${Number(version)}, ${known}: use the one that made it`);
  }
  const end = start.indexOf('\n', magic.length);
  if (end < 0) throw new BackupError('is damaged or cut off: its header has no end');
  const header = parseJson(start.slice(magic.length, end));
  if (!Value.Check(headerSchema, header)) {
    throw new BackupError('is damaged, or encrypted in a way that this Gatehouse does not know');
  }
  return { head: file.subarray(0, end + 1), encryption: header.encryption };
}

interface Sealing {
  /** Magic line and header: they cannot be changed without the passphrase either. */
  readonly head: Buffer;
  readonly body: Buffer;
  readonly encryption: Encryption;
  readonly passphrase: string;
}

function encrypt({ head, body, encryption, passphrase }: Sealing): Buffer {
  const nonce = Buffer.from(encryption.nonce, 'base64');
  const key = deriveKey(passphrase, encryption.salt);
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(head);
  return Buffer.concat([cipher.update(body), cipher.final(), cipher.getAuthTag()]);
}

function decrypt({ head, body, encryption, passphrase }: Sealing): Buffer {
  const tagStart = body.length - TAG_BYTES;
  if (tagStart < 0) throw new BackupError('is cut off');
  const nonce = Buffer.from(encryption.nonce, 'base64');
  const key = deriveKey(passphrase, encryption.salt);
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(head);
  decipher.setAuthTag(body.subarray(tagStart));
  const content = decipher.update(body.subarray(0, tagStart));
  try {
    decipher.final();
  } catch {
    throw new BackupError(
      'cannot be decrypted: the passphrase is not the one that it was made with',
    );
  }
  return content;
}

function deriveKey(passphrase: string, salt: string): Buffer {
  return scryptSync(passphrase.normalize('NFC'), Buffer.from(salt, 'base64'), KEY_BYTES, {
    ...scryptParameters,
    maxmem: SCRYPT_MEMORY_BYTES_MAX,
  });
}

function encodeContent({ program, madeAt, parts }: BackupContent): Buffer {
  const stored = parts.map(({ kind, bytes }) => {
    if (bytes.length <= partBytesMax[kind]) return zstdCompressSync(bytes);
    const why = `has ${bytes.length} bytes, and a backup takes ${partBytesMax[kind]}`;
    throw new BackupError(`the ${kind} ${why}`);
  });
  const manifest = {
    program,
    madeAt,
    parts: parts.map(({ kind, path, bytes }, index) => ({
      kind,
      ...(path === undefined ? {} : { path }),
      bytes: bytes.length,
      storedBytes: stored[index]?.length ?? 0,
      sha256: sha256(bytes),
    })),
  };
  const text = Buffer.from(JSON.stringify(manifest));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  return Buffer.concat([length, text, ...stored]);
}

function decodeContent(body: Buffer): BackupContent {
  const { manifest, partsStart } = readManifest(body);
  const { program, madeAt } = manifest;
  const storedBytes = manifest.parts.reduce((sum, part) => sum + part.storedBytes, 0);
  if (partsStart + storedBytes !== body.length) {
    throw new BackupError('is not as long as its parts');
  }
  const names = manifest.parts.map((part) => (part.kind === 'secret' ? part.path : part.kind));
  if (new Set(names).size !== names.length) throw new BackupError('has a part twice');
  let start = partsStart;
  const parts = manifest.parts.map((part): BackupPart => {
    const stored = body.subarray(start, start + part.storedBytes);
    start += part.storedBytes;
    return decodePart(part, stored);
  });
  return { program, madeAt, parts };
}

function readManifest(body: Buffer): { manifest: Manifest; partsStart: number } {
  const lengthBytes = 4;
  const length = body.length < lengthBytes ? Number.NaN : body.readUInt32BE(0);
  if (!(length <= MANIFEST_BYTES_MAX && lengthBytes + length <= body.length)) {
    throw new BackupError('has no manifest of a possible length');
  }
  const partsStart = lengthBytes + length;
  const manifest = parseJson(body.toString('utf8', lengthBytes, partsStart));
  if (!Value.Check(manifestSchema, manifest)) {
    throw new BackupError('has a manifest that this Gatehouse does not understand');
  }
  return { manifest, partsStart };
}

function decodePart(part: Manifest['parts'][number], stored: Buffer): BackupPart {
  const { kind } = part;
  const path = part.kind === 'secret' ? part.path : undefined;
  if (path !== undefined && !isPartPath(path)) {
    const shown = JSON.stringify(path.slice(0, 100));
    throw new BackupError(`names the file ${shown}, which does not lie in the config's folder`);
  }
  if (part.bytes > partBytesMax[kind]) {
    const most = partBytesMax[kind];
    throw new BackupError(`says that its ${kind} has ${part.bytes} bytes; at most ${most} can be`);
  }
  const bytes = decompress(stored, part.bytes);
  if (bytes === undefined || bytes.length !== part.bytes || sha256(bytes) !== part.sha256) {
    throw new BackupError(`has a ${kind} that is not what its manifest says`);
  }
  return path === undefined ? { kind, bytes } : { kind, path, bytes };
}

/** zstd's own default: what a frame may ask for as its window, as a power of two. */
const WINDOW_LOG_MAX = 27;

/** @returns undefined for what is not zstd, or more than it was said to be */
function decompress(stored: Buffer, bytes: number): Buffer | undefined {
  try {
    return zstdDecompressSync(stored, {
      // A limit of nothing is taken for no limit.
      maxOutputLength: Math.max(1, bytes),
      params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG_MAX },
    });
  } catch {
    return undefined;
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
