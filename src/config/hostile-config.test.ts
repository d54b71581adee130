/** Texts that nobody writes by mistake: they get an answer, soon, and never an exception. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Value } from 'typebox/value';
import { anyText } from '../testing/any-text.ts';
import { CONFIG_PROBLEMS_MAX, formatConfigProblems } from './config-problem.ts';
import { exampleConfig } from './example-config.ts';
import { parseConfig } from './parse-config.ts';
import { configSchema } from './schema.ts';
import {
  CONFIG_DEPTH_MAX,
  CONFIG_KEY_LENGTH_MAX,
  CONFIG_TEXT_LENGTH_MAX,
  CONFIG_TOKENS_MAX,
} from './text-limits.ts';

const fileName = 'gatehouse.yaml';
const slowest = { milliseconds: 0, text: '' };

/** Problems of a text; everything that any of them must hold to is asserted here. */
function refusal(text: string): string {
  // check-ignore banned-calls: the slowest answer is printed, never asserted
  const start = performance.now();
  const { config, problems = [] } = parseConfig(text, { fileName });
  // check-ignore banned-calls: the slowest answer is printed, never asserted
  const milliseconds = performance.now() - start;
  if (milliseconds > slowest.milliseconds) Object.assign(slowest, { milliseconds, text });
  assert.ok(problems.length <= CONFIG_PROBLEMS_MAX);
  const places = problems.map(({ line, column }) => line * 2 ** 32 + column);
  assert.deepEqual(
    places,
    [...places].sort((a, b) => a - b),
  );
  const lineCount = text.split('\n').length;
  for (const { line, column } of problems) {
    assert.ok(line >= 1 && line <= lineCount && column >= 1, `${line}:${column}`);
  }
  const message = formatConfigProblems(problems);
  assert.match(message, /^[\x20-\x7e\n…]*$/);
  if (config === undefined) assert.notEqual(message, '');
  else assert.deepEqual([...Value.Errors(configSchema, config)], []);
  return message;
}

function repeated(piece: string, length: number): string {
  return piece.repeat(Math.floor(length / piece.length));
}

test('a file of 10 MB is refused for its size', () => {
  assert.match(refusal(repeated('# x\n', 10_000_000)), /at most 2097152 characters, found 9?10*0*/);
  assert.match(refusal(`version: 1\n${' '.repeat(CONFIG_TEXT_LENGTH_MAX)}`), /at most 2097152/);
});

test('a file with too many words is refused, and one just below is read', () => {
  const message = refusal(repeated('a: b\n', CONFIG_TEXT_LENGTH_MAX));
  assert.match(message, new RegExp(`at most ${CONFIG_TOKENS_MAX} words and marks`));
});

test('ten thousand rules are read', () => {
  const rules = Array.from(
    { length: 10_000 },
    (_, index) =>
      `    - { name: r${index}, action: drop, source: [10.77.0.0/24], protocol: tcp, ports: [80] }`,
  );
  assert.equal(refusal(['version: 1', 'firewall:', '  rules:', ...rules, ''].join('\n')), '');
  const more = [...rules, '    - { name: one_more, action: drop }'];
  assert.match(
    refusal(['version: 1', 'firewall:', '  rules:', ...more, ''].join('\n')),
    /at most 10000 entries, found 10001/,
  );
});

test('deep nesting is refused at the limit, however it is written', () => {
  for (const piece of ['[', '{a: ', '- ', '? ', 'a: [', '{"a": [']) {
    const message = refusal(`x:\n ${repeated(piece, 1_000_000)}`);
    assert.match(message, /at most 16 levels|a complex key|mistake/, piece);
  }
  const steps = Array.from({ length: 1000 }, (_, depth) => `${' '.repeat(depth)}a:`).join('\n');
  assert.match(refusal(steps), new RegExp(`^gatehouse.yaml:${CONFIG_DEPTH_MAX + 1}:.*16 levels`));
});

test('a bomb of aliases is refused at its first anchor', () => {
  const lines = Array.from({ length: 20 }, (_, index) => {
    const last = `*a${index - 1}`;
    return `a${index}: &a${index} [${index === 0 ? 'x' : Array(10).fill(last).join(', ')}]`;
  });
  assert.match(
    refusal(lines.join('\n')),
    /^gatehouse.yaml:1:5: expected every value written out, found an anchor/,
  );
});

test('control characters, halves of characters and turned text are refused where they stand', () => {
  for (const [character, name] of [
    ['\0', 'U\\+0000'],
    ['\x1b', 'U\\+001B'],
    ['\r', 'U\\+000D'],
    ['\x85', 'U\\+0085'],
    ['\u2028', 'U\\+2028'],
    ['\u202e', 'U\\+202E'],
    ['\ud800', 'U\\+D800'],
    ['\ufeff', 'U\\+FEFF'],
    ['\uffff', 'U\\+FFFF'],
  ] as const) {
    const message = refusal(`version: 1\n# a${character}b\n`);
    assert.match(message, new RegExp(`^gatehouse.yaml:2:4: .* found ${name}$`), name);
  }
});

test('a byte order mark, carriage returns and a missing last line feed are taken as they are', () => {
  assert.equal(refusal(`\ufeff${exampleConfig}`), '');
  assert.equal(refusal(exampleConfig.replaceAll('\n', '\r\n')), '');
  assert.equal(refusal(exampleConfig.trimEnd()), '');
});

test('tabs are no indentation', () => {
  assert.match(
    refusal('version: 1\nwan:\n\tinterface: wan0\n'),
    /^gatehouse.yaml:3:1: .*Tabs are not allowed/,
  );
});

test('names of the language itself are neither keys nor names', () => {
  for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
    assert.match(refusal(`version: 1\n${name}: {}\n`), new RegExp(`unknown key \`${name}\``));
    const network = `version: 1\nnetworks:\n  ${name}: { interfaces: [a], address: 10.0.0.1/8 }\n`;
    assert.match(refusal(network), /^gatehouse.yaml:3:3: .*does not use itself/, name);
    const rule = `version: 1\nfirewall: { rules: [{ name: a, action: drop, from: ${name} }] }\n`;
    assert.match(refusal(rule), /the name of a network/, name);
  }
  assert.equal(Object.hasOwn(Object.prototype, 'interfaces'), false);
});

test('letters that look like others are shown as what they are', () => {
  assert.match(
    refusal('version: 1\n\u0430pi: {}\n'),
    /found the unknown key `\\u0430pi`; did you mean `api`\?$/,
  );
  const text = exampleConfig.replace('mode: self-signed', 'mode: self\u2010signed');
  assert.match(refusal(text), /found the text `self\\u2010signed`; did you mean `self-signed`\?$/);
  for (const address of [
    '10.77.0.１/24',
    '10.77.0.01/24',
    '0x0a.77.0.1/24',
    '10.77.1/24',
    '172.16.0.1/024',
  ]) {
    const network = `version: 1\nnetworks: { lan: { interfaces: [a], address: ${address} } }\n`;
    assert.match(
      refusal(network),
      /^gatehouse.yaml:2:46: networks.lan.address: expected an IPv4 address/,
      address,
    );
  }
});

test('long keys and long values do not fill the messages', () => {
  const long = 'k'.repeat(CONFIG_KEY_LENGTH_MAX + 1);
  assert.ok(refusal(`{"${long}": 1}`).length < 300);
  assert.ok(refusal(`version: 1\napi: { listen: [${'x'.repeat(100_000)}] }\n`).length < 300);
  assert.ok(refusal(`${long.repeat(100)}: 1\n`).length < 300);
});

test('what is repeated a thousand times is answered like what stands once', () => {
  const pieces = [
    ...[
      '[',
      ']',
      '{',
      '}',
      '- ',
      '? ',
      ': ',
      ', ',
      'a: ',
      '"',
      "'",
      '&a ',
      '*a ',
      '!a ',
      '%a\n',
      '---\n',
    ],
    ...[
      '...\n',
      '|\n',
      '>\n',
      '#',
      '\n',
      '  \n',
      'a\n',
      'a: b\n',
      '[a,b]\n',
      '{a: b}, ',
      '"\\x',
      '[]:\n',
      'k: "',
    ],
    ...['a: 1\n', '-\n', ' a\n', '<<: ', 'a: {}\n', '{a,a},', '"a" ', '🂡', 'é'],
  ];
  for (const piece of pieces) {
    for (const text of [repeated(piece, 10_000), `x: [${repeated(piece, 10_000)}`]) refusal(text);
  }
});

test('no text makes the reader throw', () => {
  const piece = fc.oneof(
    fc.constantFrom(...exampleConfig.split(/(?<=[\s:,[\]{}])/)),
    fc.constantFrom(
      '\n',
      '\n  ',
      '\n    ',
      '- ',
      ': ',
      '[',
      ']',
      '{',
      '}',
      ', ',
      '"',
      "'",
      '# ',
      '\t',
      '\0',
    ),
    anyText({ maxLength: 8 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => {
      refusal(pieces.join(''));
    }),
    { numRuns: 500 },
  );
});

test('no change of a right file makes the reader throw', () => {
  const piece = fc.oneof(
    fc.constantFrom(
      '',
      '\n',
      ' ',
      '1',
      '-1',
      '1e999',
      '[',
      '}',
      'null',
      'lan',
      'wan',
      '10.77.0.1/24',
      '::/0',
    ),
    fc.constantFrom(...exampleConfig.split(/\s+/)),
    fc.string({ unit: 'grapheme', maxLength: 4 }),
  );
  const cut = fc.tuple(fc.nat(exampleConfig.length), fc.nat(40), piece);
  fc.assert(
    fc.property(fc.array(cut, { minLength: 1, maxLength: 4 }), (cuts) => {
      let text = exampleConfig;
      for (const [at, length, other] of cuts)
        text = text.slice(0, at) + other + text.slice(at + length);
      refusal(text);
    }),
    { numRuns: 500 },
  );
  const { milliseconds, text } = slowest;
  const head = JSON.stringify(text.slice(0, 40));
  console.log(`slowest: ${milliseconds.toFixed(0)} ms for ${text.length} characters, ${head}…`);
});
