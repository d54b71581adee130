import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CpioArchive } from './virtual-machine-archive.ts';

/**
 * What GNU cpio 2.13 writes for `printf 'a\na/b\n' | cpio -o -H newc`, but for the fields that
 * carry no meaning here: inode, number of links, time and device.
 */
const expected = [
  '070701',
  '00000001',
  '000041ED',
  '00000000'.repeat(2),
  '00000001',
  '00000000'.repeat(6),
  '00000002',
  '00000000',
  'a\0',
  '070701',
  '00000002',
  '000081ED',
  '00000000'.repeat(2),
  '00000001',
  '00000000',
  '00000005',
  '00000000'.repeat(4),
  '00000004',
  '00000000',
  'a/b\0\0\0',
  'hello\0\0\0',
].join('');

function encode(archive: CpioArchive): Buffer {
  return Buffer.concat([...archive.encode()]);
}

test('an archive holds each file after its folder, padded to four bytes', () => {
  const archive = new CpioArchive();
  archive.addFile('/a/b', Buffer.from('hello'));
  const text = encode(archive).toString('latin1');
  assert.equal(text.slice(0, expected.length).toLowerCase(), expected.toLowerCase());
  assert.match(text.slice(expected.length), /^070701.{104}TRAILER!!!\0+$/);
  assert.equal(text.length % 4, 0);
});

test('a folder that several files share is written once', () => {
  const archive = new CpioArchive();
  archive.addFile('/a/b', Buffer.from('1'));
  archive.addFile('/a/c', Buffer.from('2'));
  archive.addFolder('/a');
  assert.equal(encode(archive).toString('latin1').split('070701').length - 1, 4);
});

test('a relative path is refused by name', () => {
  assert.throws(() => new CpioArchive().addFile('a/b', new Uint8Array()), /path a\/b .* absolute/);
});
