import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import {
  type BackupContent,
  BackupError,
  decodeBackup,
  encodeBackup,
  partBytesMax,
} from './backup-format.ts';

const content: BackupContent = {
  program: '0.1.0',
  madeAt: '2026-03-01T12:00:00.000Z',
  parts: [
    { kind: 'config', bytes: Buffer.from('version: 1\n') },
    { kind: 'journal', bytes: Buffer.from('c5330f6e {"format":1}\n') },
    { kind: 'secret', path: 'keys/gate.json', bytes: Buffer.from('{"key":"secret"}') },
  ],
};
const passphrase = 'korrekt Pferd Batterie Ömlaut';

const plain = encodeBackup(content);
const encrypted = encodeBackup(content, { passphrase });

function refusal(file: Buffer, options: { passphrase?: string } = {}): string {
  try {
    decodeBackup(file, options);
  } catch (cause) {
    assert.ok(cause instanceof BackupError, String(cause));
    return cause.message;
  }
  return assert.fail('it was accepted');
}

function withDigest(body: Buffer): Buffer {
  return Buffer.concat([body, createHash('sha256').update(body).digest()]);
}

/** A backup whose checksums are right, whatever else is not. */
function forged(manifest: unknown, ...stored: readonly Buffer[]): Buffer {
  const text = Buffer.from(JSON.stringify(manifest));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  const head = Buffer.from('gatehouse-backup 1\n{"encryption":null}\n');
  return withDigest(Buffer.concat([head, length, text, ...stored]));
}

function part(bytes: Buffer, change: object = {}): object {
  const storedBytes = zstdCompressSync(bytes).length;
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return { kind: 'config', bytes: bytes.length, storedBytes, sha256, ...change };
}

const about = { program: '0.1.0', madeAt: '2026-03-01T12:00:00.000Z' };

test('what was put into a backup comes out of it', () => {
  assert.deepEqual(decodeBackup(plain), content);
  assert.deepEqual(decodeBackup(encrypted, { passphrase }), content);
  const empty = { ...content, parts: [{ kind: 'config', bytes: Buffer.alloc(0) } as const] };
  assert.deepEqual(decodeBackup(encodeBackup(empty)), empty);
});

test('a backup that somebody else made is read', () => {
  // By Python: hashlib, struct, and a zstd frame of one raw block (RFC 8878) written by hand.
  const file = Buffer.from(
    'Z2F0ZWhvdXNlLWJhY2t1cCAxCnsiZW5jcnlwdGlvbiI6bnVsbH0KAAAAu3sicHJvZ3JhbSI6IjAuMS4wIiwibWFk' +
      'ZUF0IjoiMjAyNi0wMy0wMVQxMjowMDowMC4wMDBaIiwicGFydHMiOlt7ImtpbmQiOiJjb25maWciLCJieXRlcyI6' +
      'MTEsInN0b3JlZEJ5dGVzIjoyMCwic2hhMjU2IjoiMDliZmNjNmExNGI4M2UyMTkyYjg2NzM2Nzc3MjVjODQ4ODNl' +
      'ZTljZDBjNzBlNDVjOWVjMDlkYWE4ZjJiMjg0NyJ9XX0otS/9IAtZAAB2ZXJzaW9uOiAxCrO8jWdqCjedYs7yjtaq' +
      'FCN7O5//li/PwVcL1eBYt3hf',
    'base64',
  );
  const parts = [{ kind: 'config', bytes: Buffer.from('version: 1\n') }];
  assert.deepEqual(decodeBackup(file), { ...about, parts });
});

test('an encrypted backup that somebody else made is read', () => {
  // By Python: hashlib's scrypt, and AES-GCM of the package cryptography.
  const file = Buffer.from(
    'Z2F0ZWhvdXNlLWJhY2t1cCAxCnsiZW5jcnlwdGlvbiI6eyJjaXBoZXIiOiJhZXMtMjU2LWdjbSIsIm5vbmNlIjoi' +
      'QUFFQ0F3UUZCZ2NJQ1FvTCIsImtkZiI6InNjcnlwdCIsInNhbHQiOiJBQUVDQXdRRkJnY0lDUW9MREEwT0R4QVJF' +
      'aE1VRlJZWEdCa2FHeHdkSGg4PSIsImNvc3QiOjMyNzY4LCJibG9ja1NpemUiOjgsInBhcmFsbGVsaXphdGlvbiI6' +
      'M319CtQm0ycR40gIyBnR6u+0/Cvtd6T2Xf4WNc3BjVx7lRv8ETZTqVua5mOVlOS2LHj6SFC1DrWwNvzZLkNEY3Q3' +
      'Ll0iBkXkZrgtcFrbs0d3Tw42/WqxlHyRphq+KKLorP9peCkuVyXRIydLnQjQR9qgNEFC1NSiHgSqij6eThXF/Pui' +
      'vFqBzqLQ9BQd93lvX+MBUN2ASqsD+/ZwEzF8ODBRMr2ct/y2+ZsQXUqqpk9l51mOVq3/lCGhJ4dZ8nTHEGQU2BZT' +
      'VPbnticmjpQ8hNQ/yWyxQ8LAgSrHK2AigTB7kqmnyFkjDY9+jcNe9eKnJZqm1Mgw/EiVYsP/xv3sHZkYUjM4LVI=',
    'base64',
  );
  const parts = [{ kind: 'config', bytes: Buffer.from('version: 1\n') }];
  assert.deepEqual(decodeBackup(file, { passphrase: 'Torhaus größer' }), { ...about, parts });
});

test('an encrypted backup shows nothing of its content', () => {
  for (const words of ['version', 'secret', 'keys', '0.1.0']) {
    assert.equal(encrypted.includes(words), false, words);
  }
  const again = encodeBackup(content, { passphrase });
  assert.notDeepEqual(again, encrypted);
});

test('the passphrase is the same however its letters were typed', () => {
  const decomposed = passphrase.normalize('NFD');
  assert.notEqual(decomposed, passphrase);
  assert.deepEqual(decodeBackup(encrypted, { passphrase: decomposed }), content);
});

test('survive-103: a wrong passphrase, a missing one and one too many are told apart', () => {
  assert.match(refusal(encrypted, { passphrase: 'wrong' }), /^cannot be decrypted: the passphrase/);
  assert.match(refusal(encrypted), /^is encrypted: give its passphrase$/);
  assert.match(refusal(plain, { passphrase }), /^is not encrypted, so it is not the one/);
});

test('survive-103: a backup cut off at any byte is refused', () => {
  for (const [file, options] of [
    [plain, {}],
    [encrypted, { passphrase }],
  ] as const) {
    for (let length = 0; length < file.length; length++) {
      assert.match(refusal(file.subarray(0, length), options), /cut off|no backup/, `${length}`);
    }
  }
});

test('survive-103: a backup with any flipped bit is refused', () => {
  for (const [file, options] of [
    [plain, {}],
    [encrypted, { passphrase }],
  ] as const) {
    for (let index = 0; index < file.length * 8; index++) {
      const flipped = Buffer.from(file);
      flipped[index >> 3] = (flipped[index >> 3] ?? 0) ^ (1 << (index & 7));
      assert.match(refusal(flipped, options), /damaged|no backup|has format/, `bit ${index}`);
    }
  }
});

test('survive-103: nothing in an encrypted backup can be changed without its passphrase', () => {
  const bodyEnd = encrypted.length - 32;
  const step = Math.ceil(bodyEnd / 10);
  for (let index = 0; index < bodyEnd; index += step) {
    const changed = Buffer.from(encrypted.subarray(0, bodyEnd));
    changed[index] = (changed[index] ?? 0) ^ 1;
    const why = refusal(withDigest(changed), { passphrase });
    assert.match(why, /cannot be decrypted|no backup|does not know|has format/, `byte ${index}`);
  }
});

test('survive-103: a backup of a newer format is refused by its number', () => {
  const newer = Buffer.concat([Buffer.from('gatehouse-backup 2\n'), plain.subarray(19)]);
  assert.match(refusal(newer), /^has format 2, and this Gatehouse knows 1: use the one that made/);
});

test('survive-103: a header that asks for hours of computing is refused at once', () => {
  const text = encrypted.toString('latin1');
  const costly = Buffer.from(text.replace('"cost":32768', '"cost":1073741824'), 'latin1');
  const file = withDigest(costly.subarray(0, costly.length - 32));
  assert.match(refusal(file, { passphrase }), /in a way that this Gatehouse does not know/);
});

test('survive-103: a file that lies outside of the folder of the config is refused', () => {
  const bytes = Buffer.from('x');
  const paths = ['../x', 'a/../../x', '/etc/shadow', '', '.', 'a//b', 'a\0b', 'a\nb', '..', 'a/'];
  for (const path of paths) {
    const file = forged(
      { ...about, parts: [part(bytes, { kind: 'secret', path })] },
      zstdCompressSync(bytes),
    );
    assert.match(refusal(file), /which does not lie in the config's folder/, JSON.stringify(path));
  }
});

test('survive-103: a part that unpacks to more than it says takes no more memory than that', () => {
  const bomb = zstdCompressSync(Buffer.alloc(256 * 1024 * 1024));
  assert.ok(bomb.length < 100_000);
  const sha256 = '0'.repeat(64);
  const small = { kind: 'config', bytes: 10, storedBytes: bomb.length, sha256 };
  const before = process.memoryUsage.rss();
  assert.match(refusal(forged({ ...about, parts: [small] }, bomb)), /is not what its manifest/);
  const large = { ...small, bytes: partBytesMax.config + 1 };
  assert.match(refusal(forged({ ...about, parts: [large] }, bomb)), /at most 8388608 can be/);
  assert.ok(process.memoryUsage.rss() - before < 128 * 1024 * 1024);
});

test('survive-103: a manifest that does not fit its parts is refused', () => {
  const bytes = Buffer.from('version: 1\n');
  const stored = zstdCompressSync(bytes);
  const whole = part(bytes);
  const cases: readonly (readonly [unknown, readonly Buffer[], RegExp])[] = [
    [{ ...about, parts: [whole] }, [], /not as long as its parts/],
    [{ ...about, parts: [whole] }, [stored, Buffer.from('x')], /not as long as its parts/],
    [{ ...about, parts: [whole, whole] }, [stored, stored], /has a part twice/],
    [{ ...about, parts: [part(bytes, { bytes: 3 })] }, [stored], /not what its manifest says/],
    [
      { ...about, parts: [part(bytes, { sha256: '1'.repeat(64) })] },
      [stored],
      /not what its manifest says/,
    ],
    [{ ...about, parts: [part(bytes, { kind: 'program' })] }, [stored], /does not understand/],
    [{ ...about, parts: [part(bytes, { bytes: -1 })] }, [stored], /does not understand/],
    [{ ...about, parts: [part(bytes, { bytes: 1e300 })] }, [stored], /does not understand/],
    [{ ...about, parts: Array(17).fill(whole) }, Array(17).fill(stored), /does not understand/],
    [{ ...about, parts: [], more: 1 }, [], /does not understand/],
    [{ ...about, program: 'x'.repeat(70_000), parts: [] }, [], /no manifest of a possible length/],
    [null, [], /does not understand/],
  ];
  assert.deepEqual(decodeBackup(forged({ ...about, parts: [whole] }, stored)).parts.length, 1);
  for (const [manifest, parts, why] of cases) {
    assert.match(refusal(forged(manifest, ...parts)), why, JSON.stringify(manifest).slice(0, 200));
  }
});

test('survive-103: whatever the file holds, it is read or refused with a sentence', () => {
  const head = Buffer.from('gatehouse-backup 1\n{"encryption":null}\n');
  const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));
  const files = fc.oneof(
    bytes,
    bytes.map((body) => withDigest(Buffer.concat([head, body]))),
    fc.tuple(fc.jsonValue(), bytes).map(([manifest, stored]) => forged(manifest, stored)),
    fc
      .tuple(fc.jsonValue(), bytes)
      .map(([value, stored]) => forged({ ...about, parts: [value] }, stored)),
  );
  fc.assert(
    fc.property(files, (file) => {
      assert.notEqual(refusal(file), '');
    }),
    { numRuns: 2000 },
  );
});

test('a part that is larger than a backup takes is refused while it is made', () => {
  const bytes = Buffer.alloc(partBytesMax.secret + 1);
  const parts = [{ kind: 'secret', path: 'keys.json', bytes } as const];
  assert.throws(() => encodeBackup({ ...content, parts }), /the secret has 1048577 bytes/);
});
