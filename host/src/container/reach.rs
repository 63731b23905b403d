//! Whom a container may call. Pure: what is known of the container's networks goes in, a [`Reach`] comes out.
//!
//! - Containers of one user-defined network reach each other by name; those of the default bridge by address only.
//! - The outside needs an entry of the allow-list, or the host's network.
//! - The machine itself is not "outside": loopback, link-local and metadata addresses need an entry that names them; on
//!   the host's network loopback is open, as it is what that option means.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::addresses::Subnet;
use super::runtime::Reach;

/// What decides about one container's calls.
#[derive(Clone, Debug, Default)]
pub struct View<'a> {
    pub mode: Mode,
    /// Entries as in [`Spec::egress`](super::spec::Spec::egress).
    pub egress: &'a [String],
    /// All its networks are `--internal`: nothing outside, whatever the list says.
    pub internal: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// On networks of its own; the default.
    #[default]
    Bridged,
    Host,
    None,
}

/// `peer`: the container of a common network that is called so, or has this address.
pub fn reach(view: &View<'_>, host: &str, port: u16, peer: impl Fn(&str) -> Option<String>) -> Reach {
    let host = bare(host);
    if view.mode == Mode::None {
        return Reach::Denied(format!("{host}:{port}: the container has no network (--network none)"));
    }
    if let Some(name) = peer(&host) {
        return Reach::Container(name);
    }
    let outside = match host.parse() {
        Ok(address) => permits(view, &host, port, address),
        Err(_) if view.mode == Mode::Host || listed(view.egress, &host, port, None) => Ok(()),
        Err(_) => Err(not_listed(&host, port)),
    };
    match outside {
        Ok(()) if view.internal => Err(format!("{host}:{port}: the container's networks are internal")),
        outcome => outcome,
    }
    .map_or_else(Reach::Denied, |()| Reach::Outside)
}

/// Whether a call to `host` may go to `address`, which is what the name stands for, or the host itself.
pub fn permits(view: &View<'_>, host: &str, port: u16, address: IpAddr) -> Result<(), String> {
    let host = bare(host);
    let address = plain(address);
    let literal = listed(view.egress, &host, port, Some(address));
    if is_guarded(address) {
        let open = literal || (view.mode == Mode::Host && address.is_loopback());
        return if open { Ok(()) } else { Err(guarded(&host, port, address)) };
    }
    if view.mode == Mode::Host || literal || listed(view.egress, &host, port, None) {
        return Ok(());
    }
    Err(not_listed(&host, port))
}

fn not_listed(host: &str, port: u16) -> String {
    let place = place(host, port);
    format!(
        "{place}: no container of this name is on a common network, and the outside is closed. Allow it with --egress {place} \
         (docker: --label wharf.egress={place})"
    )
}

fn guarded(host: &str, port: u16, address: IpAddr) -> String {
    let (asked, place) = (place(host, port), place(&address.to_string(), port));
    format!(
        "{asked}: {address} is this machine's own or its metadata service. Allow it with --egress {place} \
         (docker: --label wharf.egress={place})"
    )
}

/// As an entry of the allow-list is written.
fn place(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Lower case, without the brackets of an IPv6 address and without the root's dot.
fn bare(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// IPv4 written as IPv6 is IPv4: or `::ffff:127.0.0.1` would be a way around the rules.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) => match (six.to_canonical(), six.octets()) {
            (IpAddr::V4(four), _) => IpAddr::V4(four),
            // IPv4-compatible, and NAT64's well-known prefix.
            (_, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]) if six > Ipv6Addr::LOCALHOST => {
                IpAddr::V4(Ipv4Addr::new(a, b, c, d))
            }
            (_, [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]) => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            (six, _) => six,
        },
        four => four,
    }
}

/// Addresses that mean this machine or its surroundings: loopback, link-local (where clouds keep their metadata), none,
/// multicast, broadcast.
pub fn is_guarded(address: IpAddr) -> bool {
    match plain(address) {
        IpAddr::V4(four) => {
            four.is_loopback()
                || four.is_link_local()
                || four.octets()[0] == 0
                || four.is_multicast()
                || four.is_broadcast()
                // Metadata services outside the link-local range.
                || [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)].contains(&four)
        }
        IpAddr::V6(six) => {
            six.is_loopback()
                || six.is_unspecified()
                || six.is_multicast()
                || six.is_unicast_link_local()
                || six == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
        }
    }
}

/// Whether an entry allows it. With an address, only entries that name addresses (or `localhost`) count.
fn listed(entries: &[String], host: &str, port: u16, address: Option<IpAddr>) -> bool {
    entries.iter().any(|entry| {
        let (name, ports) = split(entry);
        let name = bare(name);
        let right_host = match address {
            Some(address) => {
                names_address(&name, address) || (name == "localhost" && host == name && address.is_loopback())
            }
            None => names_host(&name, host),
        };
        right_host && ports.is_none_or(|ports| ports == "*" || ports.parse() == Ok(port))
    })
}

/// `HOST:PORT`, `[v6]:PORT`, `HOST`: the port is what follows the last colon, unless that belongs to an IPv6 address.
fn split(entry: &str) -> (&str, Option<&str>) {
    if entry.parse::<Ipv6Addr>().is_ok() {
        return (entry, None);
    }
    match entry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (entry, None),
    }
}

fn names_host(name: &str, host: &str) -> bool {
    let below = |parent: &str| host.strip_suffix(parent).is_some_and(|sub| sub.len() > 1 && sub.ends_with('.'));
    name == "*" || name == host || name.strip_prefix("*.").is_some_and(below)
}

fn names_address(name: &str, address: IpAddr) -> bool {
    if let Ok(named) = name.parse::<IpAddr>() {
        return plain(named) == address;
    }
    matches!((name.parse::<Subnet>(), address), (Ok(subnet), IpAddr::V4(four)) if subnet.contains(four))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(host: &str) -> Option<String> {
        ["mask", "172.18.0.3"].contains(&host).then(|| "maskdetection".to_owned())
    }

    /// `c`: a container, `o`: outside, `-`: denied.
    fn outcome(mode: Mode, egress: &[&str], host: &str, port: u16) -> char {
        let egress: Vec<String> = egress.iter().map(|entry| (*entry).to_owned()).collect();
        match reach(&View { mode, egress: &egress, internal: false }, host, port, peers) {
            Reach::Container(name) => {
                assert_eq!(name, "maskdetection");
                'c'
            }
            Reach::Outside => 'o',
            Reach::Denied(why) => {
                assert!(!why.is_empty());
                '-'
            }
        }
    }

    #[test]
    fn peers_come_first_and_the_outside_is_closed() {
        for (mode, egress, host, port, expected) in [
            (Mode::Bridged, &[][..], "mask", 5000, 'c'),
            (Mode::Bridged, &[], "MASK.", 5000, 'c'),
            (Mode::Bridged, &[], "172.18.0.3", 5000, 'c'),
            (Mode::Bridged, &[], "example.org", 443, '-'),
            (Mode::Bridged, &[], "93.184.216.34", 443, '-'),
            (Mode::Host, &[], "mask", 5000, 'c'),
            (Mode::Host, &[], "example.org", 443, 'o'),
            (Mode::None, &["example.org:443"], "example.org", 443, '-'),
            (Mode::None, &[], "mask", 5000, '-'),
        ] {
            assert_eq!(outcome(mode, egress, host, port), expected, "{mode:?} {egress:?} {host}:{port}");
        }
    }

    #[test]
    fn entries_allow_what_they_name() {
        for (entry, host, port, expected) in [
            ("example.org:443", "example.org", 443, 'o'),
            ("example.org:443", "EXAMPLE.org.", 443, 'o'),
            ("example.org:443", "example.org", 80, '-'),
            ("example.org:443", "evil-example.org", 443, '-'),
            ("example.org:443", "api.example.org", 443, '-'),
            ("example.org", "example.org", 8443, 'o'),
            ("example.org:*", "example.org", 8443, 'o'),
            ("*.example.org:443", "api.example.org", 443, 'o'),
            ("*.example.org:443", "example.org", 443, '-'),
            ("*.example.org:443", ".example.org", 443, '-'),
            ("*:443", "anything.test", 443, 'o'),
            ("*", "169.254.169.254", 80, '-'),
            ("*", "127.0.0.1", 80, '-'),
            ("10.0.0.0/8:80", "10.1.2.3", 80, 'o'),
            ("10.0.0.0/8:80", "11.1.2.3", 80, '-'),
            ("10.1.2.3:80", "10.1.2.3", 80, 'o'),
            ("[2001:db8::1]:80", "[2001:db8::1]", 80, 'o'),
            ("2001:db8::1", "2001:db8::1", 80, 'o'),
            ("127.0.0.1:9000", "127.0.0.1", 9000, 'o'),
            ("127.0.0.1:9000", "127.0.0.1", 9001, '-'),
            ("169.254.169.254:80", "169.254.169.254", 80, 'o'),
            ("localhost:9000", "localhost", 9000, 'o'),
            ("", "example.org", 443, '-'),
            (":443", "example.org", 443, '-'),
        ] {
            assert_eq!(outcome(Mode::Bridged, &[entry], host, port), expected, "{entry} for {host}:{port}");
        }
    }

    #[test]
    fn the_machine_itself_is_guarded_however_it_is_written() {
        for host in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[ff02::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:169.254.169.254]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[fd00:ec2::254]",
            "100.100.100.200",
        ] {
            assert_eq!(outcome(Mode::Bridged, &["*"], host, 80), '-', "{host}");
        }
        assert_eq!(outcome(Mode::Host, &[], "127.0.0.1", 80), 'o');
        assert_eq!(outcome(Mode::Host, &[], "[::1]", 80), 'o');
        assert_eq!(outcome(Mode::Host, &[], "169.254.169.254", 80), '-');
    }

    #[test]
    fn a_permitted_name_does_not_lead_to_a_forbidden_address() {
        let egress = ["api.test:80".to_owned(), "localhost:9000".to_owned(), "169.254.169.254:80".to_owned()];
        let view = View { mode: Mode::Bridged, egress: &egress, internal: false };
        let go = |host: &str, port, address: &str| permits(&view, host, port, address.parse().unwrap()).is_ok();
        assert!(go("api.test", 80, "93.184.216.34"));
        assert!(!go("api.test", 81, "93.184.216.34"));
        assert!(!go("api.test", 80, "127.0.0.1"));
        assert!(!go("api.test", 80, "::ffff:127.0.0.1"));
        assert!(go("localhost", 9000, "127.0.0.1") && go("localhost", 9000, "::1"));
        assert!(!go("localhost", 9000, "169.254.1.1"));
        assert!(go("api.test", 80, "169.254.169.254"), "the list names the address itself");
    }

    #[test]
    fn internal_networks_have_no_outside() {
        let egress = ["example.org".to_owned()];
        let view = View { mode: Mode::Bridged, egress: &egress, internal: true };
        assert!(matches!(reach(&view, "example.org", 80, peers), Reach::Denied(_)));
        assert!(matches!(reach(&view, "mask", 80, peers), Reach::Container(_)));
    }
}
