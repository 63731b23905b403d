//! A proper component that answers no requests: it exports `run` and nothing else.

wit_bindgen::generate!({
    inline: "
        package fixtures:no-handler@0.1.0;

        world no-handler {
            export run: func();
        }
    ",
});

struct Runner;

impl Guest for Runner {
    fn run() {}
}

export!(Runner);
