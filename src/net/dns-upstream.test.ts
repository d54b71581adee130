import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatDnsUpstream, parseDnsUpstream, requireDnsUpstream } from './dns-upstream.ts';

test('every upstream is read back from its text', () => {
  const host = fc.constantFrom('198.51.100.53', '[2001:db8::53]', 'dns.example.net');
  const port = fc.constantFrom('', ':53', ':443', ':853', ':5353');
  const path = fc.constantFrom('', '/', '/dns-query', '/a/b');
  const scheme = fc.constantFrom('', 'tls://', 'https://');
  fc.assert(
    fc.property(fc.tuple(scheme, host, port, path), (parts) => {
      const upstream = parseDnsUpstream(parts.join(''));
      if (upstream === undefined) return;
      assert.deepEqual(parseDnsUpstream(formatDnsUpstream(upstream)), upstream);
    }),
    { numRuns: 500 },
  );
});

test('each transport has its port, and DNS over HTTPS its path', () => {
  for (const [text, transport, port] of [
    ['198.51.100.53', 'plain', 53],
    ['198.51.100.53:5353', 'plain', 5353],
    ['2001:db8::53', 'plain', 53],
    ['[2001:db8::53]:5353', 'plain', 5353],
    ['tls://dns.example.net', 'tls', 853],
    ['tls://198.51.100.53:8853', 'tls', 8853],
    ['https://dns.example.net/dns-query', 'https', 443],
    ['https://[2001:db8::53]:8443/x', 'https', 8443],
  ] as const) {
    const upstream = requireDnsUpstream(text);
    assert.equal(upstream.transport, transport, text);
    assert.equal(upstream.port, port, text);
    assert.equal(formatDnsUpstream(upstream), text);
  }
  const short = requireDnsUpstream('https://dns.example.net');
  assert.equal(formatDnsUpstream(short), 'https://dns.example.net/dns-query');
});

test('what is no upstream is refused', () => {
  for (const text of [
    '',
    'dns.example.net',
    'udp://198.51.100.53',
    'http://dns.example.net/dns-query',
    'HTTPS://dns.example.net/dns-query',
    'tls://',
    'tls://dns.example.net/x',
    'tls://user@dns.example.net',
    'tls://2001:db8::53',
    'https://dns.example.net/dns-query?x=1',
    'https://dns.example.net/dns-query#x',
    'https://dns.example.net/../x y',
    'https://dns.example.net:0/dns-query',
    '198.51.100.53/24',
    '198.51.100.53:65536',
    '[198.51.100.53]:53',
    '198.51.100.053',
    'tls://dns.exаmple.net',
  ]) {
    assert.equal(parseDnsUpstream(text), undefined, text);
  }
});
