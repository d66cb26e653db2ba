//! The articles: Markdown files with a front matter of three lines, read and rendered once at the
//! start. Raw HTML in an article is shown as text. Links are left as written: the articles are the
//! site's own, and its content policy runs no script that a link could name.
//! Deliberately absent: watching the folder (articles are part of the image), drafts, tags.

use std::path::Path;

use pulldown_cmark::{Event, Options, Parser, html};

#[derive(Debug, Default)]
pub struct Article {
    pub slug: String,
    pub title: String,
    pub date: String,
    pub summary: String,
    pub html: String,
}

pub struct Library(Vec<Article>);

impl Library {
    pub fn load(dir: &Path) -> Result<Self, String> {
        let failed = |path: &Path, error| format!("cannot read {}: {error}", path.display());
        let mut articles = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(|error| failed(dir, error))? {
            let path = entry.map_err(|error| failed(dir, error))?.path();
            if path.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            let text = std::fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
            let slug = path.file_stem().unwrap_or_default().to_string_lossy();
            let article = Article::parse(&slug, &text);
            articles.push(article.map_err(|error| format!("{}: {error}", path.display()))?);
        }
        if articles.is_empty() {
            return Err(format!("no articles in articles_dir {}", dir.display()));
        }
        articles.sort_by(|a, b| (&b.date, &a.slug).cmp(&(&a.date, &b.slug)));
        Ok(Self(articles))
    }

    pub fn newest_first(&self) -> &[Article] {
        &self.0
    }

    pub fn find(&self, slug: &str) -> Option<&Article> {
        self.0.iter().find(|article| article.slug == slug)
    }
}

impl Article {
    fn parse(slug: &str, text: &str) -> Result<Self, String> {
        if !slug.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
            return Err("a file name may hold only a-z, 0-9 and hyphens".to_string());
        }
        let (front, body) = text
            .strip_prefix("---\n")
            .and_then(|rest| rest.split_once("\n---\n"))
            .ok_or("no front matter between two lines of ---")?;
        let mut article = Self { slug: slug.to_string(), html: render(body), ..Default::default() };
        for line in front.lines() {
            match line.split_once(": ") {
                Some(("title", value)) => article.title = value.trim().to_string(),
                Some(("date", value)) => article.date = value.trim().to_string(),
                Some(("summary", value)) => article.summary = value.trim().to_string(),
                _ => return Err(format!("not a title, date or summary: {line}")),
            }
        }
        if article.title.is_empty() || article.summary.is_empty() || !is_date(&article.date) {
            return Err("a title, a summary and a date as YYYY-MM-DD are needed".to_string());
        }
        Ok(article)
    }
}

fn is_date(text: &str) -> bool {
    let shape = |byte: u8| if byte.is_ascii_digit() { b'0' } else { byte };
    text.bytes().map(shape).eq(*b"0000-00-00")
}

fn render(markdown: &str) -> String {
    let events = Parser::new_ext(markdown, Options::ENABLE_TABLES).map(|event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        other => other,
    });
    let mut out = String::new();
    html::push_html(&mut out, events);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "---\ntitle: On keys: a note\ndate: 2025-03-09\nsummary: Short.\n---\n\nText `code`.\n";

    #[test]
    fn front_matter_is_strict() {
        let article = Article::parse("on-keys", GOOD).unwrap();
        assert_eq!((&*article.title, &*article.date), ("On keys: a note", "2025-03-09"));
        assert_eq!(article.html, "<p>Text <code>code</code>.</p>\n");
        for (slug, text, part) in [
            ("../x", GOOD.to_string(), "file name"),
            ("x", "Text".to_string(), "no front matter"),
            ("x", GOOD.replace("date: 2025-03-09\n", ""), "are needed"),
            ("x", GOOD.replace("03-09", "3-9"), "YYYY-MM-DD"),
            ("x", GOOD.replace("summary", "author"), "not a title"),
        ] {
            let error = Article::parse(slug, &text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn raw_html_is_shown_as_text() {
        let out = render("<script>alert(1)</script>\n\na <b onclick=x>b</b>");
        assert!(!out.contains("<script") && !out.contains("<b "), "{out}");
        assert!(out.contains("&lt;script&gt;") && out.contains("&lt;b onclick=x&gt;"), "{out}");
    }

    #[test]
    fn a_folder_is_loaded_newest_first() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Library::load(dir.path()).is_err_and(|error| error.contains("no articles")));
        std::fs::write(dir.path().join("old.md"), GOOD).unwrap();
        std::fs::write(dir.path().join("new.md"), GOOD.replace("2025", "2026")).unwrap();
        std::fs::write(dir.path().join("notes.txt"), "not an article").unwrap();
        let library = Library::load(dir.path()).unwrap();
        let slugs: Vec<_> = library.newest_first().iter().map(|a| a.slug.as_str()).collect();
        assert_eq!(slugs, ["new", "old"]);
        assert!(library.find("old").is_some() && library.find("notes").is_none());
    }

    #[test]
    fn the_articles_of_the_image_are_sound() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("image/articles");
        let library = Library::load(&dir).unwrap();
        assert_eq!(library.newest_first().len(), 12);
        assert!(library.find("redis-caching").is_some());
    }
}
