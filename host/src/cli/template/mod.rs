//! Go's templates as `--format` takes them: fields, pipes, `if`, `range`, `with`, variables, and docker's functions.
//!
//! It must never know whose fields it shows.
//!
//! - [`parse`]: text → [`parse::Node`]s
//! - [`evaluate`]: nodes and a [`Json`] → text
//! - [`functions`]: what a template may call

mod evaluate;
mod functions;
mod parse;

use super::json::Json;
use crate::error::{Error, Result};

#[derive(Debug)]
pub struct Template(Vec<parse::Node>);

impl Template {
    pub fn parse(text: &str) -> Result<Template> {
        parse::parse(text)
            .map(Template)
            .map_err(|why| Error::invalid(format!("template parsing error in {text:?}: {why}")))
    }

    pub fn render(&self, root: &Json) -> Result<String> {
        evaluate::render(&self.0, root, false).map_err(|why| Error::invalid(format!("template: {why}")))
    }

    /// The same over headings instead of values: functions that would change their letters leave them.
    pub fn heading(&self, headings: &Json) -> Result<String> {
        evaluate::render(&self.0, headings, true).map_err(|why| Error::invalid(format!("template: {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> Json {
        Json::parse(
            r#"{"Name":"web","State":{"Running":true,"Codes":[1,2]},"Labels":{"b":"x","a":"y"},"None":null,
                "Nets":{"two":{"IP":"10.0.0.2"},"one":{"IP":"10.0.0.1"}},"Ports":{"5000/tcp":[{"HostPort":"5001"}]}}"#,
        )
        .unwrap()
    }

    #[test]
    fn templates_as_go_reads_them() {
        for (template, shown) in [
            ("{{.Name}}: {{upper .Name}} {{.Name | upper}}", "web: WEB WEB"),
            ("{{ .State.Running }} {{json .State.Codes}}", "true [1,2]"),
            ("{{.State.Codes}} {{len .State.Codes}} {{.Labels}}", "[1 2] 2 map[a:y b:x]"),
            ("{{json .Labels}}", r#"{"b":"x","a":"y"}"#),
            ("{{if .State.Running}}yes{{else}}no{{end}}", "yes"),
            ("{{if .None}}1{{else if eq .Name \"web\"}}2{{else}}3{{end}}", "2"),
            ("{{range .Nets}}{{.IP}} {{end}}", "10.0.0.1 10.0.0.2 "),
            ("{{range $name, $net := .Nets}}{{$name}}={{$net.IP}};{{end}}", "one=10.0.0.1;two=10.0.0.2;"),
            ("{{range $p, $conf := .Ports}}{{$p}} -> {{(index $conf 0).HostPort}}{{end}}", "5000/tcp -> 5001"),
            ("{{with .State}}{{.Running}} {{$.Name}}{{end}}", "true web"),
            ("{{index .Labels \"a\"}}{{index .Labels \"none\"}}", "y<no value>"),
            ("{{join (split \"a,b\" \",\") \"+\"}} {{not .State.Running}}", "a+b false"),
            ("a {{- \" b \" -}} c", "a b c"),
            ("{{/* nothing */}}{{printf \"%s-%d%%\" .Name 7}}{{println}}", "web-7%\n"),
            ("{{range .State.Codes}}{{.}}{{end}}{{range .None}}x{{else}}none{{end}}", "12none"),
            ("{{and .Name .State.Running (gt (len .Labels) 1)}}", "true"),
        ] {
            assert_eq!(Template::parse(template).unwrap().render(&web()).unwrap(), shown, "{template}");
        }
    }

    #[test]
    fn mistakes_say_what_there_is() {
        let error = |text: &str| match Template::parse(text) {
            Err(error) => error.to_string(),
            Ok(template) => template.render(&web()).unwrap_err().to_string(),
        };
        assert!(error("{{.Name").contains("unclosed action"));
        assert!(error("{{fly .Name}}").contains("function \"fly\" not defined; there are: and, "));
        assert!(error("{{range .Nets}}").contains("unexpected end: {{end}} is missing"));
        assert!(error("{{end}}").contains("unexpected {{end}}"));
        assert!(error("{{.State.X}}").contains("no field .X; there are: Running, Codes"));
        assert!(error("{{$x}}").contains("undefined variable \"$x\""));
        let deep = format!("{}{}", "{{if .}}".repeat(5000), "{{end}}".repeat(5000));
        assert!(error(&deep).contains("too deep"));
    }

    #[test]
    fn headings_keep_their_letters() {
        let headings = Json::parse(r#"{"Name":"NAME"}"#).unwrap();
        assert_eq!(Template::parse("{{lower .Name}} {{json .Name}}").unwrap().heading(&headings).unwrap(), "NAME NAME");
    }
}
