/**
 * Parts of a gateway that Gatehouse does not have yet, played by Debian's packages, so that the
 * demo is a whole network from the first day. Each goes away when the product does its work: the
 * DHCP server with Gatehouse's own.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
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
