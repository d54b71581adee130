import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { anyText } from '../testing/any-text.ts';
import { type CliCommand, parseCommandLine } from './arguments.ts';
import { UsageError } from './usage-error.ts';
import { globalOptions, globalOptionsOf, verbs } from './verbs.ts';

const instance = { config: '/etc/gatehouse/gatehouse.yaml', instanceWords: [], json: false };
const terms = { windowMs: 60_000, forced: false };

for (const [words, command] of [
  [[], { verb: 'help' }],
  [['help'], { verb: 'help' }],
  [['--help'], { verb: 'help' }],
  [['-h'], { verb: 'help' }],
  [['help', 'apply'], { verb: 'help', topic: 'apply' }],
  [['apply', '--help'], { verb: 'help', topic: 'apply' }],
  [['backup', '--help'], { verb: 'help', topic: 'backup' }],
  [['version'], { verb: 'version' }],
  [['--version'], { verb: 'version' }],
  [['run'], { verb: 'run', user: 'gatehouse' }],
  [['run', '--user', 'gate'], { verb: 'run', user: 'gate' }],
  [['demo'], { verb: 'demo', port: 8080 }],
  [['demo', '--port=0'], { verb: 'demo', port: 0 }],
  [['init'], { verb: 'init', output: '/etc/gatehouse/gatehouse.yaml' }],
  [['init', '--output', '-'], { verb: 'init', output: '-' }],
  [['check'], { verb: 'check', file: '/etc/gatehouse/gatehouse.yaml' }],
  [['check', '-'], { verb: 'check', file: '-' }],
  [['check', '--', '--odd'], { verb: 'check', file: '--odd' }],
  [['diff', 'new.yaml'], { verb: 'diff', file: 'new.yaml' }],
  [['apply'], { verb: 'apply', source: { file: '/etc/gatehouse/gatehouse.yaml' }, terms }],
  [
    ['apply', 'new.yaml', '--confirm', '5m', '--force'],
    { verb: 'apply', source: { file: 'new.yaml' }, terms: { windowMs: 300_000, forced: true } },
  ],
  [['apply', '--revision', '7'], { verb: 'apply', source: { revision: 7 }, terms }],
  [['confirm'], { verb: 'confirm' }],
  [['confirm', 'c3f9'], { verb: 'confirm', changeId: 'c3f9' }],
  [['rollback'], { verb: 'rollback' }],
  [['rollback', 'c3f9'], { verb: 'rollback', changeId: 'c3f9' }],
  [['rollback', '--to', '3'], { verb: 'rollback', to: { revision: 3, terms } }],
  [['history'], { verb: 'history', limit: 20 }],
  [['history', '--limit', '200'], { verb: 'history', limit: 200 }],
  [['history', '12'], { verb: 'history', revision: 12, limit: 20 }],
  [['safe'], { verb: 'safe', on: true }],
  [['safe', '--off'], { verb: 'safe', on: false }],
  [['status'], { verb: 'status' }],
  [['states'], { verb: 'states', filter: {}, limit: 100 }],
  [
    ['states', '--device', '10.77.0.9', '--protocol', 'udp', '--limit', '1000000'],
    { verb: 'states', filter: { device: '10.77.0.9', protocol: 17 }, limit: 1_000_000 },
  ],
  [
    ['states', '--remote=203.0.113.0/24', '--port=0', '--protocol=253', '--state=opening'],
    {
      verb: 'states',
      filter: { remote: '203.0.113.0/24', port: 0, protocol: 253, state: 'opening' },
      limit: 100,
    },
  ],
  [['table', 'show'], { verb: 'table', action: 'show' }],
  [['table', 'show', 'bad'], { verb: 'table', action: 'show', table: 'bad' }],
  [
    ['table', 'add', 'bad', '2001:db8::/32', '--for', '10m'],
    { verb: 'table', action: 'add', table: 'bad', prefix: '2001:db8::/32', forMs: 600_000 },
  ],
  [
    ['table', 'remove', 'bad', '192.0.2.7'],
    { verb: 'table', action: 'remove', table: 'bad', prefix: '192.0.2.7' },
  ],
  [['states', '--kill', '--all'], { verb: 'states', kill: 'all' }],
  [['states', '--kill', '--port', '25'], { verb: 'states', kill: { port: 25 } }],
  [['doctor'], { verb: 'doctor' }],
  [['rules'], { verb: 'rules' }],
  [['rules', '--planned'], { verb: 'rules', planned: '/etc/gatehouse/gatehouse.yaml' }],
  [['rules', '--planned', 'new.yaml'], { verb: 'rules', planned: 'new.yaml' }],
  [['backup', 'a.backup'], { verb: 'backup', file: 'a.backup' }],
  [
    ['restore', 'a.backup', '--passphrase-file', '-'],
    { verb: 'restore', file: 'a.backup', passphraseFile: '-' },
  ],
  [['completion', 'zsh'], { verb: 'completion', shellName: 'zsh' }],
] as const) {
  test(`understood: gatehouse ${words.join(' ')}`, () => {
    assert.deepEqual(parseCommandLine(words, {}), { ...instance, ...command });
  });
}

test('options that every verb has stand before the verb or after it', () => {
  const expected = {
    verb: 'status',
    config: '/a b.yaml',
    runtime: '/run/x',
    instanceWords: ['--config', '/a b.yaml', '--runtime', '/run/x'],
    json: true,
  };
  for (const words of [
    ['--config', '/a b.yaml', '--runtime=/run/x', '--json', 'status'],
    ['--config=/a b.yaml', 'status', '--json', '--runtime', '/run/x'],
    ['status', '--runtime', '/run/x', '--config', '/a b.yaml', '--json'],
  ]) {
    assert.deepEqual(parseCommandLine(words, {}), expected);
  }
});

test('the config file comes from the words, else from the environment, else by default', () => {
  const environment = { GATEHOUSE_CONFIG: '/srv/gate.yaml' };
  assert.equal(parseCommandLine(['status'], environment).config, '/srv/gate.yaml');
  assert.equal(parseCommandLine(['status', '--config', 'x'], environment).config, 'x');
  assert.equal(parseCommandLine(['status'], { GATEHOUSE_CONFIG: '' }).config, instance.config);
});

function accessOf(words: readonly string[], environment: Record<string, string>) {
  const command = parseCommandLine(words, environment);
  return command.verb === 'apply' ? command.terms.access : assert.fail();
}

test('the connection of whoever asks comes from the words, else from sshd', () => {
  const fromSsh = { SSH_CONNECTION: '10.77.0.9 51234 10.77.0.1 22' };
  const expected = { clientAddress: '10.77.0.9', gatewayAddress: '10.77.0.1', gatewayPort: 22 };
  assert.deepEqual(accessOf(['apply'], fromSsh), expected);
  assert.deepEqual(accessOf(['apply', '--access', fromSsh.SSH_CONNECTION], {}), expected);
  assert.deepEqual(accessOf(['apply', '--access', '10.77.0.9 10.77.0.1 22'], {}), expected);
  const six = { SSH_CONNECTION: 'fe80::2%lan0 51234 fe80::1%lan0 2222' };
  assert.deepEqual(accessOf(['apply'], six), {
    clientAddress: 'fe80::2%lan0',
    gatewayAddress: 'fe80::1%lan0',
    gatewayPort: 2222,
  });
});

test('an environment without sense names no connection', () => {
  for (const text of [
    '',
    'x',
    '1.2.3.4 1 5.6.7.8',
    '1.2.3.4 1 5.6.7.8 0',
    '1.2.3.4 1 5.6.7.8 22 9',
  ])
    assert.equal(accessOf(['apply'], { SSH_CONNECTION: text }), undefined, text);
});

for (const [words, complaint] of [
  [['rum'], /^there is no verb `rum`; did you mean run\?$/],
  [['zzzzzz'], /^there is no verb `zzzzzz`$/],
  [['constructor'], /^there is no verb `constructor`/],
  [['__proto__'], /^there is no verb `__proto__`/],
  [['\u001b[2J'], /^there is no verb `\\u001b\[2J`$/],
  [['--frobnicate'], /^there is no option `--frobnicate`$/],
  [['-x'], /^there is no option `-x`$/],
  [['--confg', 'x'], /^there is no option `--confg`; did you mean --config\?$/],
  [['--confirm', '60s', 'apply'], /^--confirm belongs to a verb: write it after the verb$/],
  [['apply', '--confrim', '60s'], /^apply takes no `--confrim`; did you mean --confirm\?$/],
  [['status', '--force'], /^status takes no `--force`$/],
  [['status', 'me'], /^status takes no `me`$/],
  [['check', 'a', 'b'], /^check takes one FILE, and `b` is another$/],
  [['check', ''], /^the FILE of check is empty$/],
  [['run', '--json'], /^run takes no `--json`/],
  [['--json', 'run'], /^run takes no --json$/],
  [['run', '--user', 'Root!'], /^--user `Root!` is no account$/],
  [['run', '--config'], /^--config needs a FILE$/],
  [['check', '--config', '-'], /^--config takes no standard input: it needs a file$/],
  [['run', '--config='], /^--config needs a FILE$/],
  [['apply', '--confirm', '--force'], /^--confirm needs a DURATION$/],
  [['apply', '--confirm', '60'], /^--confirm `60` is no duration such as 60s or 5m$/],
  [['apply', '--confirm', '1s', '--confirm', '2s'], /^--confirm is given twice$/],
  [['apply', '--force=yes'], /^--force takes no value$/],
  [['apply', '--access', '1.2.3.4'], /^--access `1\.2\.3\.4` is not "CLIENT PORT GATEWAY PORT"/],
  [['apply', '--revision', '-1'], /^--revision needs a NUMBER$/],
  [['apply', '--revision', '1e3'], /^--revision `1e3` is no number of a revision$/],
  [['apply', 'x', '--revision', '1'], /^apply takes a FILE or --revision, not both$/],
  [['confirm', 'C3F9'], /^`C3F9` is no name of a change$/],
  [['rollback', 'c3', '--to', '1'], /^rollback takes a CHANGE or --to, not both$/],
  [['rollback', '--force'], /^rollback takes --force only with --to$/],
  [['history', '--limit', '0'], /^--limit `0` is no number 1 to 200$/],
  [['history', '--limit', '201'], /^--limit `201` is no number 1 to 200$/],
  [['history', 'x'], /^REVISION `x` is no number of a revision$/],
  [['history', '9007199254740993'], /is no number of a revision$/],
  [['history', '1', '--limit', '2'], /^history takes a REVISION or --limit, not both$/],
  [['rules', 'x'], /^rules takes a FILE only with --planned$/],
  [['demo', '--port', '65536'], /^--port `65536` is no number 0 to 65535$/],
  [['table'], /^table needs a COMMAND$/],
  [['table', 'list'], /^table `list`: there is table show, table add, table remove$/],
  [['table', 'show', 'bad', '192.0.2.1'], /^table show takes a NAME, and nothing behind it$/],
  [['table', 'show', '--for', '1h'], /^table show takes no --for$/],
  [['table', 'add', 'bad'], /^table add needs a NAME and an ADDRESS$/],
  [['table', 'add', '@bad', '192.0.2.1'], /^`@bad` is no name of a table$/],
  [['table', 'add', 'bad', '192.0.2.1/24'], /^`192\.0\.2\.1\/24` is no address such as .* prefix/],
  [['table', 'add', 'bad', '192.0.2.1', '::1'], /^table takes no further `::1`$/],
  [['table', 'add', 'bad', ''], /^the ADDRESS of table is empty$/],
  [['table', 'add', 'bad', '::1', '--for', '0s'], /^--for `0s` is no duration such as 10m, of at/],
  [
    ['table', 'add', 'bad', '::1', '--for', '53w'],
    /is no duration such as 10m, of at most a year$/,
  ],
  [['states', '--device', 'laptop'], /^--device `laptop` is no address such as 10\.77\.0\.9/],
  [['states', '--device', '10.77.0.9/24'], /nor a network such as 10\.77\.0\.0\/24$/],
  [['states', '--remote', '2001:db8::1/64'], /^--remote `2001:db8::1\/64` is no address/],
  [['states', '--port', '65536'], /^--port `65536` is no number 0 to 65535$/],
  [
    ['states', '--protocol', 'tpc'],
    /^--protocol `tpc` is none of icmp, .*, nor a number 0 to 255$/,
  ],
  [['states', '--protocol', '256'], /nor a number 0 to 255$/],
  [['states', '--state', 'open'], /^--state `open` is none of unconfirmed, opening, /],
  [['states', '--limit', '1000001'], /^--limit `1000001` is no number 1 to 1000000$/],
  [['states', '--all'], /^states takes --all only with --kill$/],
  [
    ['states', '--kill'],
    /^states --kill needs an option that picks sessions, such as --device, or/,
  ],
  [
    ['states', '--kill', '--all', '--port', '1'],
    /takes --all or options that pick sessions, not both/,
  ],
  [['states', '--kill', '--all', '--limit', '1'], /^states takes --limit only without --kill$/],
  [['states', 'kill'], /^states takes no `kill`$/],
  [['backup'], /^backup needs a FILE$/],
  [['restore', '-'], /^restore needs the path of a FILE$/],
  [['completion'], /^completion needs a SHELL$/],
  [['completion', 'tcsh'], /^there is no completion for `tcsh`: there is bash, zsh, fish$/],
  [['help', 'aply'], /^there is no verb `aply`; did you mean apply\?$/],
  [['status', '--version'], /^status takes no `--version`$/],
  [['role', 'api'], /^there is no verb `role`/],
  [['check', 'x'.repeat(4_097)], /is no word of at most 4096 characters$/],
  [['check', 'a\0b'], /^`a\\u0000b` is no word/],
  [Array.from({ length: 65 }, () => 'x'), /^more than 64 words$/],
] as const) {
  test(`refused, saying why: gatehouse ${JSON.stringify(words.join(' ').slice(0, 60))}`, () => {
    assert.throws(() => parseCommandLine(words, {}), { name: 'UsageError', message: complaint });
  });
}

test('a wrong command line says whose help tells more, and whether JSON is wanted', () => {
  const errorOf = (...words: string[]): UsageError => {
    try {
      parseCommandLine(words, {});
    } catch (error) {
      if (error instanceof UsageError) return error;
    }
    return assert.fail();
  };
  assert.equal(errorOf('apply', '--x').verb, 'apply');
  assert.equal(errorOf('--json', 'run').verb, 'run');
  assert.equal(errorOf('x').verb, undefined);
  assert.equal(errorOf('apply', '--x', '--json').wantsJson, true);
  assert.equal(errorOf('apply', '--x', '--', '--json').wantsJson, false);
});

test('whatever the words are, there is a command or a UsageError', () => {
  const known = [
    ...verbs.map(({ name }) => name),
    ...verbs.flatMap(({ options }) => options.map(({ name }) => `--${name}`)),
    ...globalOptions.map(({ name }) => `--${name}`),
    ...['-', '--', '-h', '--version', '60s', '7', 'bash', '--config=', '--json=1', '='],
  ];
  const word = fc.oneof(fc.constantFrom(...known), anyText(), fc.string());
  const names = new Set<string>(verbs.map(({ name }) => name));
  fc.assert(
    fc.property(fc.array(word, { maxLength: 8 }), fc.string(), (words, access) => {
      let command: CliCommand;
      try {
        command = parseCommandLine(words, { SSH_CONNECTION: access, GATEHOUSE_CONFIG: access });
      } catch (error) {
        assert.ok(error instanceof UsageError, String(error));
        return;
      }
      assert.ok(names.has(command.verb));
    }),
    { numRuns: 10_000 },
  );
});

test('the table of verbs has each word once, and help for every verb', () => {
  const names = verbs.map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  for (const verb of verbs) {
    const options = [...verb.options, ...globalOptionsOf(verb)].map(({ name }) => name);
    assert.equal(new Set(options).size, options.length, verb.name);
  }
  const help = verbs.find(({ name }) => name === 'help');
  assert.deepEqual(help?.positional?.completes, names);
});
