//! The HTML: one frame for all pages, and what goes into it. Every value passes through `escape` on
//! its way in, only the rendered articles and the fragments are HTML already.
//! Deliberately absent: a template language (five pages need none), scripts, forms and anything
//! from another host.

use std::fmt::Write;

use crate::articles::{Article, Library};

pub const STYLE: &str = include_str!("style.css");

pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

fn frame(site: &str, heading: &str, description: &str, content: &str) -> String {
    let (site, heading, description) = (escape(site), escape(heading), escape(description));
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="description" content="{description}">
<title>{heading} - {site}</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<header><a class="home" href="/">{site}</a><nav><a href="/">Articles</a> <a href="/popular">Popular</a></nav></header>
{content}
<footer>No scripts, no cookies. Served from a small cache.</footer>
</body>
</html>
"#
    )
}

fn link(article: &Article) -> String {
    format!("<a href=\"/articles/{}\">{}</a>", article.slug, escape(&article.title))
}

pub fn index(site: &str, library: &Library, popular: &str) -> String {
    let mut list = String::new();
    for article in library.newest_first() {
        let (link, date, summary) = (link(article), &article.date, escape(&article.summary));
        let _ = writeln!(list, "<li><h2>{link}</h2><time>{date}</time><p>{summary}</p></li>");
    }
    let content = format!(
        "<main><h1>Articles</h1>\n<ul class=\"list\">\n{list}</ul></main>\n\
         <aside><h2>Popular</h2>\n{popular}</aside>"
    );
    frame(site, "Articles", "Short articles on caches, backups and calm operations", &content)
}

pub fn article(site: &str, article: &Article, sidebar: &str) -> String {
    let (title, date, text) = (escape(&article.title), &article.date, &article.html);
    let content = format!(
        "<main><article><h1>{title}</h1>\n<time>{date}</time>\n{text}</article></main>\n\
         <aside>{sidebar}</aside>"
    );
    frame(site, &article.title, &article.summary, &content)
}

/// Fragment: the latest articles above the popular ones.
pub fn sidebar(library: &Library, popular: &str) -> String {
    let mut latest = String::new();
    for article in library.newest_first().iter().take(4) {
        let _ = writeln!(latest, "<li>{}</li>", link(article));
    }
    format!("<h2>Latest</h2>\n<ul>\n{latest}</ul>\n<h2>Popular</h2>\n{popular}")
}

pub type Views = [(String, f64)];

/// Fragment: articles by their views. Views of what is no article any more are passed over.
pub fn popular_list(lib: &Library, views: Option<&Views>, count: usize, scores: bool) -> String {
    let Some(views) = views else {
        return "<p>Views are counted in the cache, which does not answer now.</p>\n".to_string();
    };
    let mut list = String::new();
    let known = views.iter().filter_map(|(slug, score)| lib.find(slug).map(|found| (found, score)));
    for (article, score) in known.take(count) {
        let _ = match scores {
            true => writeln!(list, "<li>{} <small>{score:.0}</small></li>", link(article)),
            false => writeln!(list, "<li>{}</li>", link(article)),
        };
    }
    if list.is_empty() { "<p>No views yet.</p>\n".to_string() } else { format!("<ol>\n{list}</ol>\n") }
}

pub fn popular(site: &str, list: &str) -> String {
    let intro = "The ten most viewed articles, and their views.";
    let content = format!("<main><h1>Popular</h1>\n<p>{intro}</p>\n{list}</main>");
    frame(site, "Popular", intro, &content)
}

pub fn error(site: &str, status: &str) -> String {
    let heading = escape(status);
    let content = format!("<main><h1>{heading}</h1>\n<p><a href=\"/\">To the articles</a></p></main>");
    frame(site, status, status, &content)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn values_cannot_leave_their_place() {
        let page = error("<b>\"site\"", "404 'Not Found' & <i>");
        assert!(page.contains("&lt;b&gt;&quot;site&quot;") && !page.contains("<b>"));
        assert!(page.contains("404 &#39;Not Found&#39; &amp; &lt;i&gt;") && !page.contains("<i>"));
    }

    #[test]
    fn popular_lists() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("image/articles");
        let library = Library::load(&dir).unwrap();
        let views = [("gone", 9.0), ("redis-caching", 7.0), ("restore-drills", 1.0)];
        let views = views.map(|(slug, score)| (slug.to_string(), score));
        let list = popular_list(&library, Some(&views), 1, true);
        assert!(list.contains("/articles/redis-caching") && list.contains(">7<"), "{list}");
        assert!(!list.contains("gone") && !list.contains("restore-drills"), "{list}");
        assert!(!popular_list(&library, Some(&views), 1, false).contains("small"));
        assert!(popular_list(&library, Some(&[]), 1, false).contains("No views yet"));
        assert!(popular_list(&library, None, 1, false).contains("does not answer"));
    }
}
