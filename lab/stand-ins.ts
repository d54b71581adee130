/**
 * Parts of a gateway that Gatehouse does not have yet, played by Debian's packages, so that the
 * demo is a whole network from the first day. Each goes away when the product does its work: the
 * DHCP server with Gatehouse's own, the NAT with the kernel's full cone.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeFailure } from '../src/linux/command-runner.ts';
import type { Lab, LabHost } from './lab.ts';

const READY_TIMEOUT_MS = 10_000;

/** busybox udhcpd on the gateway's LAN side. */
export async function startDhcpServer(lab: Lab, gateway: LabHost): Promise<void> {
  const configPath = join(lab.directory, 'udhcpd.conf');
  writeFileSync(
    configPath,
    [
      'interface br-lan',
      'start 10.77.0.100',
      'end 10.77.0.199',
      'option subnet 255.255.255.0',
      'option router 10.77.0.1',
      'option lease 43200',
      `lease_file ${join(lab.directory, 'udhcpd.leases')}`,
      `pidfile ${join(lab.directory, 'udhcpd.pid')}`,
      '',
    ].join('\n'),
  );
  const server = gateway.spawn(['busybox', 'udhcpd', '-f', configPath]);
  await server.waitForOutput(/started/, READY_TIMEOUT_MS);
}

/** Addresses and ports of the LAN are translated by nft's masquerade. */
export async function startNat(gateway: LabHost, signal: AbortSignal): Promise<void> {
  const argv = ['nft', '-f', '-'] as const;
  const input = `table ip lab_stand_in {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    oifname "wan0" masquerade
  }
}
`;
  const result = await gateway.run(argv, { timeoutMs: READY_TIMEOUT_MS, input, signal });
  if (!result.success) throw new Error(describeFailure(argv, result));
}
