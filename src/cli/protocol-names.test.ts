import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseProtocol, protocolInWords, protocolNumbers } from './protocol-names.ts';

test('every name reads as its number and back, and every number has words', () => {
  for (const [name, number] of Object.entries(protocolNumbers)) {
    assert.equal(parseProtocol(name), number);
    assert.equal(protocolInWords(number), name);
  }
  for (let number = 0; number < 256; number++) {
    assert.equal(parseProtocol(protocolInWords(number)), number);
    assert.equal(parseProtocol(`${number}`), number);
  }
});

test('what is neither a name nor a number of one byte is no protocol', () => {
  for (const text of ['', 'TCP', 'tcp ', '256', '-1', '01', '1e1', 'constructor', '__proto__']) {
    assert.equal(parseProtocol(text), undefined, text);
  }
});
