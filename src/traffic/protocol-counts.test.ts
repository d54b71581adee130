import assert from 'node:assert/strict';
import { test } from 'node:test';
import { protocolCounts } from './protocol-counts.ts';

const names = new Map([[2, 'wan0']]);

test('the counters of all CPUs are summed and the protocol is named', () => {
  const key = { interfaceIndex: 2, etherType: 0x0800, ipProtocol: 17, direction: 0 };
  const perCpu = [
    { packets: 1n, bytes: 60n },
    { packets: 2n, bytes: 3000n },
  ];
  assert.deepEqual(protocolCounts([[key, perCpu]], names), [
    { interface: 'wan0', direction: 'ingress', protocol: 'ipv4/udp', packets: 3n, bytes: 3060n },
  ]);
});

test('rows are ordered by interface, direction and falling bytes', () => {
  const key = { interfaceIndex: 2, etherType: 0x86dd, ipProtocol: 58, direction: 1 };
  const rows = protocolCounts(
    [
      [{ ...key, interfaceIndex: 9 }, [{ packets: 1n, bytes: 1n }]],
      [{ ...key, direction: 0 }, [{ packets: 1n, bytes: 1n }]],
      [{ ...key, ipProtocol: 200 }, [{ packets: 1n, bytes: 1n }]],
      [key, [{ packets: 1n, bytes: 2n }]],
      [{ ...key, etherType: 0x0806, ipProtocol: 0 }, [{ packets: 1n, bytes: 3n }]],
      [{ ...key, etherType: 0, ipProtocol: 0 }, [{ packets: 1n, bytes: 4n }]],
    ],
    names,
  );
  assert.deepEqual(
    rows.map((row) => `${row.interface} ${row.direction} ${row.protocol}`),
    [
      '#9 egress ipv6/icmpv6',
      'wan0 egress other',
      'wan0 egress arp',
      'wan0 egress ipv6/icmpv6',
      'wan0 egress ipv6/200',
      'wan0 ingress ipv6/icmpv6',
    ],
  );
});
