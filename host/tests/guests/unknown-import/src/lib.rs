//! A service that cannot start: it calls `acme:gadget/spin@1.0.0`, which no host offers.

use fixture::{IncomingRequest, Reply, ResponseOutparam};

wit_bindgen::generate!({
    inline: "
        package acme:gadget@1.0.0;

        interface spin {
            spin: func(turns: u32) -> u32;
        }

        world needy {
            import spin;
        }
    ",
});

struct Needy;

impl fixture::Guest for Needy {
    fn handle(_: IncomingRequest, out: ResponseOutparam) {
        Reply::text(200, acme::gadget::spin::spin(1).to_string()).send(out);
    }
}

fixture::export!(Needy);
