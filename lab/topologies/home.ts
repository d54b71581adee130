/**
 * A home: two machines behind a gateway, and an internet of one server.
 *
 * ```
 *  laptop eth0 ── lan0 ┐
 *                      ├ br-lan gateway wan0 ── eth0 internet
 *  phone  eth0 ── lan1 ┘ 10.77.0.1/24  198.51.100.1/24   198.51.100.254/24, .53, 203.0.113.80
 * ```
 *
 * Laptop and phone have no address: they get it by DHCP. The internet knows no way to 10.77.0.0/24,
 * so only what the gateway translates comes back. It forwards once Gatehouse lets it.
 */
import type { Topology } from '../topology.ts';

export const homeTopology: Topology = {
  hosts: {
    internet: {
      addresses: {
        // The provider's router and its name server.
        eth0: ['198.51.100.254/24', '198.51.100.53/24'],
        // A server further away.
        lo: ['203.0.113.80/32'],
      },
    },
    gateway: {
      addresses: { wan0: ['198.51.100.1/24'], 'br-lan': ['10.77.0.1/24'] },
      bridges: { 'br-lan': ['lan0', 'lan1'] },
      routes: [{ to: 'default', via: '198.51.100.254' }],
    },
    laptop: {},
    phone: {},
  },
  links: {
    wan: { ends: ['internet:eth0', 'gateway:wan0'] },
    laptop: { ends: ['gateway:lan0', 'laptop:eth0'] },
    phone: { ends: ['gateway:lan1', 'phone:eth0'] },
  },
};
