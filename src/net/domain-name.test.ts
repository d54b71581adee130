import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDomainName } from './domain-name.ts';

test('a name is read into lower case', () => {
  assert.equal(parseDomainName('DNS.Example.NET'), 'dns.example.net');
  assert.equal(parseDomainName('lan'), 'lan');
  assert.equal(parseDomainName('xn--bcher-kva.example'), 'xn--bcher-kva.example');
  assert.equal(parseDomainName('3com.example'), '3com.example');
});

test('labels have at most 63 characters and names at most 253', () => {
  const label = 'a'.repeat(63);
  assert.equal(parseDomainName(label), label);
  assert.equal(parseDomainName(`${label}a`), undefined);
  const longest = [label, label, label, 'a'.repeat(61)].join('.');
  assert.equal(longest.length, 253);
  assert.equal(parseDomainName(longest), longest);
  assert.equal(parseDomainName(`${longest}a`), undefined);
});

test('what is no name of a host, or could be an address, is refused', () => {
  for (const text of [
    '',
    '.',
    'a.',
    '.a',
    'a..b',
    '-a',
    'a-',
    'a_b',
    'a b',
    'bücher.example',
    'exаmple.net',
    'a\n',
    '1.2.3.4',
    '1.2.3',
    '0x7f.1',
    '0x7f000001',
    '10',
  ]) {
    assert.equal(parseDomainName(text), undefined, text);
  }
});
