/** The example of the reference: one machine that is all at once, which no real one would be. */

export const exampleConfig = `version: 1

wan:
  interface: wan0
  address: 198.51.100.1/24        # or: dhcp
  gateway: 198.51.100.254

networks:
  lan:
    interfaces: [lan0]            # several are bridged
    address: 10.77.0.1/24
    dhcp: { range: 10.77.0.100-10.77.0.199, lease: 12h }
    nat: { mode: translate, filtering: endpoint-independent }
  guests:
    interfaces: [lan1]
    address: 10.78.0.1/24
    dhcp: { range: 10.78.0.100-10.78.0.199, lease: 1h }

dns:
  upstreams: [198.51.100.53, 'tls://dns.example.net']
  domain: lan

portForwards:
  - { protocol: tcp, port: 8080, to: 10.77.0.20:80, comment: the web server }
  - { protocol: udp, port: 6000-6009, to: 10.77.0.21:6000 }

nat:
  externalAddresses: [198.51.100.2]
  oneToOne:
    - { external: 198.51.100.3, internal: 10.77.0.22 }
  sessions: 1000000
  timeouts: { udp: 5m }

api:
  listen: [10.77.0.1:8443, 127.0.0.1:8443]
  tls: { mode: self-signed }
  trustedProxies: []

firewall:
  rules:
    - name: guests_reach_the_printer
      action: accept
      from: guests
      to: lan
      destination: [10.77.0.9]
      protocol: tcp
      ports: [631, 9100-9102]
    - { name: guests_stay_out, action: reject, from: guests, to: lan, log: true }
    - { name: no_nuisances, action: drop, destination: ["@nuisances"] }
  tables:
    nuisances: { addresses: [192.0.2.66, 2001:db8:66::/48], comment: by hand }
  features:
    no_mail_from_guests:
      enabled: true
      rules:
        - { name: guests_send_no_mail, action: drop, from: guests, protocol: tcp, ports: [25] }
  devices:
    console:
      mac: 02:00:00:00:00:01
      address: 10.77.0.30
      schedule: homework
  schedules:
    homework: { days: [mon, tue, wed, thu, fri], from: 14:00, to: 17:30 }

dataplane:
  fastPath: auto
  interfaces:
    wan0: { fastPath: tc }

gatekeeper:
  front: { interface: front0 }
  back: { interface: back0, address: 203.0.113.1 }
  protected:
    - prefix: 192.0.2.0/24
      path: { bandwidth: 1Gbit/s }
      grantors:
        - { address: 203.0.113.10, weight: 2 }
        - { address: 203.0.113.11 }
  keys: keys.json

grantor:
  interface: eth0
  address: 203.0.113.20
  gatekeepers: [203.0.113.1]
  policy: policy.ts
  keys: keys.json

paths:
  state: /var/lib/gatehouse
  runtime: /run/gatehouse
`;
