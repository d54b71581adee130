import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCommandLine, UsageError } from './arguments.ts';

test('run takes interfaces and an address to answer on', () => {
  assert.deepEqual(
    parseCommandLine(['run', '--interface', 'wan0', '--interface=br-lan', '--listen', '[::1]:80']),
    {
      verb: 'run',
      interfaces: ['wan0', 'br-lan'],
      listen: { kind: 'tcp', host: '::1', port: 80 },
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

for (const [words, complaint] of [
  [['rum'], /no verb "rum"/],
  [['run'], /at least one --interface/],
  [['run', '--interface', 'a'.repeat(16)], /no interface name/],
  [['run', '--interface', '../x'], /no interface name/],
  [['run', '--interface', 'a b'], /no interface name/],
  [['run', '--interface', ''], /no interface name/],
  [['run', ...Array.from({ length: 8 }, (_, index) => `--interface=eth${index}`)], /at most 7/],
  [['run', '--interface', 'a', '--listen', '0.0.0.0:80'], /none of/],
  [['run', '--interface', 'a', '--listen', '127.0.0.1:65536'], /none of/],
  [['run', '--interface', 'a', '--listen', 'unix:relative'], /absolute path/],
  [['run', '--interface', 'a', '--listen', `unix:/${'x'.repeat(107)}`], /107 bytes/],
  [['run', '--interface', 'a', '--colour'], /colour/],
  [['run', '--interface', 'a', 'b'], /b/],
] as const) {
  test(`refused, saying why: ${words.join(' ').slice(0, 60)}`, () => {
    assert.throws(() => parseCommandLine(words), complaint);
    assert.throws(() => parseCommandLine(words), UsageError);
  });
}
