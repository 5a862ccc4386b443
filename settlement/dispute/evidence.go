package dispute

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"acquirer/audit"
	"acquirer/fault"
	"acquirer/store"
)

// MaxFile is the most bytes of a file that is put with a case.
const MaxFile = 2 << 20

// File is a piece of evidence.
type File struct {
	Name    string    `json:"name"` // plain: letters, digits, - _ .
	Content []byte    `json:"-"`
	SHA     string    `json:"sha256"`
	Size    int       `json:"size"`
	From    string    `json:"from"` // who put it there, or what of the house it is from
	Added   time.Time `json:"added,omitzero"`
}

// plain reports whether a name can stand in an archive and on every disk.
func plain(name string) bool {
	return name != "" && len(name) <= 64 && name == path.Base(name) && name[0] != '.' &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

// Attach puts a file with a case: a delivery note, a photo, a letter. The same
// file again changes nothing.
func (e *Engine) Attach(ctx context.Context, id int64, name string, content []byte, who Who, now time.Time) error {
	if !plain(name) || len(content) == 0 || len(content) > MaxFile || name == manifestName {
		return fmt.Errorf("dispute: %w: file %q of %d bytes: want a plain name and 1 to %d bytes", ErrAction, name, len(content), MaxFile)
	}
	if _, err := e.Case(ctx, id); err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	sha := hex.EncodeToString(sum[:])
	fault.Hit("dispute.attach.before")
	err := e.db.Write(ctx, func(tx store.Tx) error {
		n, err := tx.Exec("insert into dispute_file (id, case_id, name, sha, added, who, content) values ($1,$2,$3,$4,$5,$6,$7) on conflict (case_id, name) do nothing",
			store.NewID(), id, name, sha, now.UnixMicro(), who.Name, content)
		if err != nil {
			return err
		}
		var was string
		if err := tx.QueryRow("select sha from dispute_file where case_id = $1 and name = $2", id, name).Scan(&was); err != nil {
			return err
		}
		if was != sha {
			return fmt.Errorf("%w: another file is called %s already", ErrAction, name)
		}
		if n == 0 {
			return nil
		}
		_, err = audit.Record(tx, audit.Entry{Who: who.Name, From: who.From, Op: "dispute attach", Subject: fmt.Sprintf("case %d", id), Detail: name + ", SHA-256 " + sha, Result: audit.Done})
		return err
	})
	fault.Hit("dispute.attach.after")
	if err != nil {
		return fmt.Errorf("dispute: case %d: %w", id, err)
	}
	return nil
}

// Files reads what was put with a case.
func (e *Engine) Files(ctx context.Context, id int64) (all []File, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select name, sha, added, who, content from dispute_file where case_id = $1 order by name", id)
		all, err = store.All(rows, err, func(r *store.Rows, f *File) error {
			var added int64
			err := r.Scan(&f.Name, &f.SHA, &added, &f.From, &f.Content)
			f.Added, f.Size = time.UnixMicro(added), len(f.Content)
			return err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dispute: the files of case %d: %w", id, err)
	}
	return all, nil
}

const manifestName = "manifest.json"

// Manifest is the first file of an evidence package.
type Manifest struct {
	Case    Case      `json:"case"`
	Events  []Event   `json:"events"`
	Files   []File    `json:"files"` // with the SHA-256 of each
	Missing []string  `json:"missing,omitempty"`
	Made    time.Time `json:"made"`
	MadeBy  string    `json:"made_by"`
}

// Export writes everything there is about a case as one zip: a manifest with
// the SHA-256 of every file, what the house has of the payment (own), and what
// was put with the case. missing says what the house does not have, and why.
// The case remembers the package's SHA-256, which it returns.
func (e *Engine) Export(ctx context.Context, w io.Writer, id int64, own []File, missing []string, who Who, now time.Time) (sha string, err error) {
	c, err := e.Case(ctx, id)
	if err != nil {
		return "", err
	}
	m := Manifest{Case: c, Missing: missing, Made: now, MadeBy: who.Name}
	if m.Events, err = e.Events(ctx, id); err != nil {
		return "", err
	}
	attached, err := e.Files(ctx, id)
	if err != nil {
		return "", err
	}
	seen := map[string]bool{manifestName: true}
	for _, f := range append(own[:len(own):len(own)], attached...) {
		if !plain(f.Name) || seen[f.Name] {
			return "", fmt.Errorf("dispute: case %d: %w: file %q is there twice, or has no plain name", id, ErrAction, f.Name)
		}
		seen[f.Name] = true
		sum := sha256.Sum256(f.Content)
		f.SHA, f.Size = hex.EncodeToString(sum[:]), len(f.Content)
		m.Files = append(m.Files, f)
	}
	whole := sha256.New()
	if err := writeZip(io.MultiWriter(w, whole), &m, now); err != nil {
		return "", fmt.Errorf("dispute: the evidence of case %d: %w", id, err)
	}
	sha = hex.EncodeToString(whole.Sum(nil))
	_, err = e.move(ctx, id, now, func(_ store.Tx, c *Case) (*step, error) {
		c.Proof, c.packed = sha, len(attached)
		return &step{what: "evidence exported, SHA-256 " + sha, who: who, op: "dispute evidence", amount: c.Amount}, nil
	})
	return sha, err
}

func writeZip(w io.Writer, m *Manifest, now time.Time) error {
	z := zip.NewWriter(w)
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	for _, f := range append([]File{{Name: manifestName, Content: text}}, m.Files...) {
		h := &zip.FileHeader{Name: f.Name, Method: zip.Deflate, Modified: now.UTC()}
		out, err := z.CreateHeader(h)
		if err == nil {
			_, err = out.Write(f.Content)
		}
		if err != nil {
			return errors.Join(err, z.Close())
		}
	}
	return z.Close()
}
