//! Networks on disk, joining and leaving, and names between containers.

use tempfile::TempDir;

use super::*;
use crate::container::fixture;
use crate::container::networks::neighbours::Neighbours;
use crate::container::runtime::{Peers, Reach};

fn open(folder: &TempDir) -> Networks {
    Networks::open(folder.path(), Events::default()).unwrap()
}

fn named(name: &str) -> NetworkSpec {
    NetworkSpec { name: name.to_owned(), ..NetworkSpec::default() }
}

fn join(networks: &Networks, network: &str, container: &str, aliases: &[&str]) -> Endpoint {
    let id = format!("{container:0<64}");
    let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
    let spec = EndpointSpec { aliases, ipv4: None };
    networks.join(network, &Joining { id: &id, name: container, hostname: "" }, &spec).unwrap().1
}

fn ask(networks: &Networks, container: &str, host: &str) -> Reach {
    let id = format!("{container:0<64}");
    Neighbours::new(networks.clone(), &id, &fixture::spec()).reach(host, 5000)
}

fn is(name: &str) -> Reach {
    Reach::Container(name.to_owned())
}

#[test]
fn networks_and_their_ids_last() {
    let folder = tempfile::tempdir().unwrap();
    let networks = open(&folder);
    networks.create(NetworkSpec { labels: BTreeMap::from([("a".into(), "b".into())]), ..named("mine") }).unwrap();
    let before = networks.list();
    std::fs::write(folder.path().join("x.tmp"), "half").unwrap();
    let after = open(&folder).list();
    assert_eq!(before, after);
    let names: Vec<_> = after.iter().map(|network| (network.name.as_str(), network.driver.as_str())).collect();
    assert_eq!(names, [("bridge", "bridge"), ("host", "host"), ("mine", "bridge"), ("none", "null")]);
    assert_eq!(after[0].subnet.unwrap().to_string(), "172.17.0.0/16");
    assert_eq!(after[2].subnet.unwrap().to_string(), "172.18.0.0/16");
    assert_eq!(disk::entries(folder.path()).unwrap().len(), 4);
}

#[test]
fn creation_refuses_what_docker_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let networks = open(&folder);
    networks.create(named("mine")).unwrap();
    let with = |subnet: &str, gateway: Option<&str>| NetworkSpec {
        subnet: Some(subnet.to_owned()),
        gateway: gateway.map(str::to_owned),
        ..named("other")
    };
    for (spec, kind, message) in [
        (named("mine"), ErrorKind::Conflict, "network with name mine already exists"),
        (named("host"), ErrorKind::Forbidden, "operation is not permitted on predefined host network "),
        (named("../x"), ErrorKind::InvalidArgument, "invalid network name \"../x\""),
        (NetworkSpec { driver: "overlay".into(), ..named("o") }, ErrorKind::NotFound, "plugin \"overlay\" not found"),
        (with("172.17.5.0/24", None), ErrorKind::Forbidden, "Pool overlaps with other one on this address space"),
        (with("nonsense", None), ErrorKind::InvalidArgument, "invalid subnet nonsense"),
        (with("10.1.0.0/16", Some("10.2.0.1")), ErrorKind::InvalidArgument, "no matching subnet for gateway 10.2.0.1"),
    ] {
        let error = networks.create(spec).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().starts_with(message), "{error}");
    }
    assert_eq!(
        networks.create(with("10.1.0.0/16", Some("10.1.0.254"))).unwrap().gateway.unwrap().to_string(),
        "10.1.0.254"
    );
}

#[test]
fn networks_in_use_and_predefined_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let networks = open(&folder);
    let id = networks.create(named("mine")).unwrap().id;
    join(&networks, "mine", "a1", &[]);
    let message = |name: &str| networks.remove(name).unwrap_err().to_string();
    assert_eq!(
        message("mine"),
        "error while removing network: network mine has active endpoints (name:\"a1\" id:\"a10000000000\")"
    );
    assert_eq!(message("bridge"), "bridge is a pre-defined network and cannot be removed");
    assert_eq!(message("nothing"), "network nothing not found");
    assert!(networks.prune(&PruneFilter::default()).unwrap().removed.is_empty());
    assert!(networks.leave(&id, &format!("{:0<64}", "a1")));
    assert_eq!(networks.prune(&PruneFilter::default()).unwrap().removed, ["mine"]);
    assert_eq!(open(&folder).list().len(), 3);
}

#[test]
fn names_resolve_on_a_common_user_defined_network_only() {
    let folder = tempfile::tempdir().unwrap();
    let networks = open(&folder);
    for name in ["one", "two"] {
        networks.create(named(name)).unwrap();
    }
    join(&networks, "one", "face", &["detector"]);
    let mask = join(&networks, "one", "mask", &[]);
    join(&networks, "two", "alone", &[]);
    let by_default = join(&networks, "bridge", "plain", &[]);
    join(&networks, "bridge", "other", &[]);

    assert_eq!(ask(&networks, "mask", "face"), is("face"));
    assert_eq!(ask(&networks, "mask", "Detector"), is("face"));
    assert_eq!(ask(&networks, "face", "mask00000000"), is("mask"));
    assert_eq!(ask(&networks, "face", &mask.address.unwrap().to_string()), is("mask"));
    assert!(matches!(ask(&networks, "alone", "face"), Reach::Denied(_)));
    assert!(matches!(ask(&networks, "other", "plain"), Reach::Denied(_)));
    assert_eq!(ask(&networks, "other", &by_default.address.unwrap().to_string()), is("plain"));

    networks.renamed(&format!("{:0<64}", "face"), "faces");
    assert_eq!(ask(&networks, "mask", "faces"), is("faces"));
    assert_eq!(ask(&networks, "mask", "detector"), is("faces"));
    assert!(matches!(ask(&networks, "mask", "face"), Reach::Denied(_)));
    networks.leave("one", &format!("{:0<64}", "face"));
    assert!(matches!(ask(&networks, "mask", "detector"), Reach::Denied(_)));
}

#[test]
fn containers_of_one_alias_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let networks = open(&folder);
    networks.create(named("one")).unwrap();
    join(&networks, "one", "a1", &["web"]);
    join(&networks, "one", "a2", &["web"]);
    join(&networks, "one", "b1", &[]);
    let neighbours = Neighbours::new(networks, &format!("{:0<64}", "b1"), &fixture::spec());
    let asked: Vec<_> = (0..4).map(|_| neighbours.reach("web", 80)).collect();
    assert_eq!(asked, [is("a1"), is("a2"), is("a1"), is("a2")]);
}

#[test]
fn addresses_are_given_once_and_freed() {
    let folder = tempfile::tempdir().unwrap();
    let networks = open(&folder);
    networks.create(NetworkSpec { subnet: Some("10.0.0.0/29".into()), ..named("small") }).unwrap();
    let fixed = |address: &str| EndpointSpec { aliases: Vec::new(), ipv4: Some(address.parse().unwrap()) };
    let try_join = |name: &str, spec: &EndpointSpec| {
        let id = format!("{name:0<64}");
        networks.join("small", &Joining { id: &id, name, hostname: "" }, spec).map(|(_, endpoint)| endpoint.address)
    };
    assert!(try_join("c1", &fixed("10.0.0.1")).is_err(), "the gateway's");
    assert!(try_join("c1", &fixed("10.0.1.1")).is_err(), "not in the subnet");
    try_join("c1", &fixed("10.0.0.2")).unwrap();
    assert!(try_join("c2", &fixed("10.0.0.2")).is_err());
    for name in ["c2", "c3", "c4", "c5"] {
        try_join(name, &EndpointSpec::default()).unwrap();
    }
    let error = try_join("c6", &EndpointSpec::default()).unwrap_err();
    assert_eq!(error.to_string(), "no available IPv4 addresses on network small");
    networks.leave("small", &format!("{:0<64}", "c3"));
    assert_eq!(try_join("c6", &EndpointSpec::default()).unwrap(), "10.0.0.4".parse().ok());
}

#[test]
fn an_added_name_is_as_good_as_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let networks = open(&folder);
    networks.create(named("mine")).unwrap();
    join(&networks, "mine", "one", &[]);
    let two = join(&networks, "mine", "two", &[]).address.unwrap();
    let hosts = [("peer", two.to_string()), ("api", "10.0.0.5".into()), ("meta", "169.254.169.254".into())];
    let extra_hosts = hosts.iter().map(|(name, address)| ((*name).to_owned(), address.parse().unwrap())).collect();
    let egress = vec!["10.0.0.5:5000".to_owned(), "meta:5000".to_owned()];
    let spec = crate::container::Spec { extra_hosts, egress, ..fixture::spec() };
    let own = Neighbours::new(networks.clone(), &format!("{:0<64}", "one"), &spec);
    assert_eq!(own.reach("peer", 5000), is("two"));
    assert_eq!(own.reach("API.", 5000), Reach::Outside);
    assert!(own.permits("api", 5000, "10.0.0.5".parse().unwrap()).is_ok());
    assert!(matches!(own.reach("api", 80), Reach::Denied(_)), "another port");
    assert!(own.permits("meta", 5000, "169.254.169.254".parse().unwrap()).is_err(), "named, and guarded all the same");
    assert_eq!(own.addresses("Api"), Some(vec!["10.0.0.5".parse().unwrap()]));
    assert_eq!(own.addresses("other"), None);
}
