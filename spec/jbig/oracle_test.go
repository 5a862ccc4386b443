package jbig

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// need skips a test loudly for want of a program, or fails it when
// ACQUIRER_TEST_REQUIRE=1.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("ACQUIRER_TEST_REQUIRE") == "1" {
		t.Fatalf("no %s found and ACQUIRER_TEST_REQUIRE=1; install it with: sh deploy/test-deps.sh", program)
	}
	t.Skipf("SKIPPED: no %s found, so this is not proved; install it with: sh deploy/test-deps.sh", program)
}

// pbm is the picture as netpbm writes it: 1 is black there too.
func pbm(b *Bitmap) []byte {
	out := fmt.Appendf(nil, "P4\n%10d\n%10d\n", b.width, b.height)
	for y := range b.height {
		out = append(out, b.row(y)[:(b.width+7)/8]...)
	}
	return out
}

// JBIG-KIT reads what is written here.
func TestOthersRead(t *testing.T) {
	need(t, "jbgtopbm")
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.jbg"), filepath.Join(dir, "out.pbm")
	pictures(func(name string, b *Bitmap) {
		options(b, func(o Options) {
			if err := os.WriteFile(in, Encode(b, o), 0o600); err != nil {
				t.Fatal(err)
			}
			if msg, err := exec.CommandContext(t.Context(), "jbgtopbm", in, out).CombinedOutput(); err != nil {
				t.Fatalf("%s %+v: %v: %s", name, o, err, msg)
			}
			got, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, pbm(b)) {
				t.Errorf("%s %+v: another picture", name, o)
			}
		})
	})
}

// What JBIG-KIT writes is read here: with the adaptive pixel moved, now and
// at the next stripe, reset after each stripe, a comment, a height told late.
func TestOthersWrite(t *testing.T) {
	need(t, "pbmtojbg")
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.pbm"), filepath.Join(dir, "out.jbg")
	var moved, told int
	pictures(func(name string, b *Bitmap) {
		if err := os.WriteFile(in, pbm(b), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, flags := range []string{"0", "8", "64", "72"} {
			for _, more := range [][]string{
				{"-o", "0"},
				{"-o", "3", "-s", "7"},
				{"-o", "2", "-s", "1", "-r", "-C", "signed"},
				{"-o", "5", "-s", "20", "-c", "-m", "127"},
				{"-o", "6", "-s", "16", "-m", "8"},
				{"-o", "4", "-s", "16", "-r", "-m", "8"},
				{"-o", "0", "-s", "16", "-Y", strconv.Itoa(b.height + 1)},
				{"-o", "0", "-s", "5", "-Y", "4294967295"},
			} {
				args := append(append([]string{"-q", "-p", flags}, more...), in, out)
				if msg, err := exec.CommandContext(t.Context(), "pbmtojbg", args...).CombinedOutput(); err != nil {
					t.Fatalf("%s %v: %v: %s", name, args, err, msg)
				}
				raw, err := os.ReadFile(out)
				if err != nil {
					t.Fatal(err)
				}
				moved += bytes.Count(raw, []byte{escape, atmove})
				told += bytes.Count(raw, []byte{escape, newlen})
				got, err := Decode(raw)
				if err != nil {
					t.Fatalf("%s %v: %v", name, args, err)
				}
				if !bytes.Equal(pbm(got), pbm(b)) {
					t.Errorf("%s %v: another picture", name, args)
				}
			}
		}
	})
	if moved == 0 || told == 0 {
		t.Errorf("%d moves of the adaptive pixel and %d heights told late: this tried nothing", moved, told)
	}
}
