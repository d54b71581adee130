import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCommandLine } from './arguments.ts';

test('run takes interfaces and an address to answer on', () => {
  assert.deepEqual(
    parseCommandLine(['run', '--interface', 'wan0', '--interface=br-lan', '--listen', '[::1]:80']),
    {
      verb: 'run',
      interfaces: ['wan0', 'br-lan'],
      listen: { host: '::1', port: 80 },
      user: 'gatehouse',
    },
  );
});

test('an interface named twice is counted once', () => {
  const command = parseCommandLine(['run', '--interface', 'wan0', '--interface', 'wan0']);
  assert.deepEqual(command.verb === 'run' && command.interfaces, ['wan0']);
});

test('without words the help is shown', () => {
  assert.deepEqual(parseCommandLine([]), { verb: 'help' });
});

for (const word of ['version', '--version', 'help', '--help']) {
  test(`${word} stands alone`, () => {
    assert.deepEqual(parseCommandLine([word]), { verb: word.replace('--', '') });
    assert.throws(() => parseCommandLine([word, 'me']), {
      name: 'UsageError',
      message: `${word} takes no "me"`,
    });
  });
}

test('the longest path of a socket is taken', () => {
  const path = `/${'x'.repeat(97)}`;
  const command = parseCommandLine(['run', '--interface', 'a', '--listen', `unix:${path}`]);
  assert.deepEqual(command.verb === 'run' && command.listen, { path });
});

for (const [words, complaint] of [
  [['rum'], /^there is no verb "rum"$/],
  [['run'], /^run needs at least one --interface$/],
  [['run', '--interface', 'a'.repeat(16)], /^--interface "a{16}" is no interface name$/],
  [['run', '--interface', '../x'], /^--interface "\.\.\/x" is no interface name$/],
  [['run', '--interface', 'a b'], /^--interface "a b" is no interface name$/],
  [['run', '--interface', ''], /^--interface "" is no interface name$/],
  [
    ['run', ...Array.from({ length: 8 }, (_, index) => `--interface=eth${index}`)],
    /^run takes at most 7 interfaces$/,
  ],
  [['run', '--interface', 'a', '--listen', '0.0.0.0:80'], /^--listen "0\.0\.0\.0:80" is none of /],
  [
    ['run', '--interface', 'a', '--listen', '127.0.0.1:65536'],
    /^--listen "127\.0\.0\.1:65536" is none of unix:\/path, 127\.0\.0\.1:PORT or \[::1\]:PORT$/,
  ],
  [
    ['run', '--interface', 'a', '--listen', 'unix:relative'],
    /^--listen "unix:relative": unix: needs an absolute path/,
  ],
  [
    ['run', '--interface', 'a', '--listen', `unix:/${'x'.repeat(98)}`],
    /^--listen "unix:\/x{98}": unix: needs an absolute path of at most 98 bytes$/,
  ],
  [['run', '--interface', 'a', '--colour'], /^Unknown option '--colour'/],
  [['run', '--interface', 'a', 'stray'], /^Unexpected argument 'stray'/],
  [['run', '--interface'], /^Option '--interface <value>' argument missing/],
] as const) {
  test(`refused, saying why: ${words.join(' ').slice(0, 60)}`, () => {
    assert.throws(() => parseCommandLine(words), { name: 'UsageError', message: complaint });
  });
}
