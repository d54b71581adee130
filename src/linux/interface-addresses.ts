/** IPv4 addresses that interfaces have now, asked of the kernel without starting a program. */
import { networkInterfaces } from 'node:os';
import { type InterfaceAddress, parseInterfaceAddress } from '../net/prefix.ts';

/**
 * In the kernel's order. None where the interface is absent, down, or without a carrier, whatever
 * it is set to.
 */
export function ipv4AddressesOf(interfaceName: string): InterfaceAddress[] {
  const all = networkInterfaces()[interfaceName] ?? [];
  return all.flatMap(({ family, cidr }) => {
    const address = family === 'IPv4' ? parseInterfaceAddress(cidr ?? '') : undefined;
    return address === undefined ? [] : [address];
  });
}
