package settlement

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"acquirer/merchant"
	"acquirer/store"
)

// A result that names an order of another message, and a statement of another
// account that has our payout, are refused whole: neither is believed, whatever it
// says of the payout.
func TestFilesOfAnotherMessageAndAccount(t *testing.T) {
	eachFile(t, func(t *testing.T, w *world, _ *FileRail) {
		e := w.engine()
		ref := paidFriday(w, e, "00")
		other := w.merchant(2, "ESIGN-STD", merchant.T1, "00")
		w.sale(other, saturday, 500_00)
		w.close(e, saturday)
		w.pay(e, clock(monday, 10, 1))
		message := func(of string) (m string) {
			must(t, w.db.Read(t.Context(), func(tx store.Tx) (err error) {
				m, err = MessageOfTx(tx, of)
				return err
			}))
			return m
		}
		second := message(fmt.Sprintf("20261121-%s-T1-0", other))
		if first := message(ref); first == "" || second == "" || first == second {
			t.Fatalf("messages %q and %q", first, second)
		}
		put := func(name, text string) {
			must(t, os.WriteFile(filepath.Join(w.folder, "inbox", name), fmt.Appendf(nil, "%sT,1,99400,%x\n", text, sha256.Sum256([]byte(text))), 0o600))
		}
		put("1-result.csv", fmt.Sprintf("H,RESULT,1,R1,%s,2026-11-23T10:05:00+08:00\nD,1,%s,SUCCEEDED,99400,B1,2026-11-23T10:01:00+08:00,,\n", second, ref))
		put("2-statement.csv", fmt.Sprintf("H,STATEMENT,1,S1,8888000000000002,2026-11-23\nD,1,2026-11-23,D,99400,payout,%s,B1,\n", ref))
		w.pay(e, clock(monday, 10, 10))
		for name, want := range map[string]string{"1-result.csv": "is not in message " + second, "2-statement.csv": "account"} {
			why, err := os.ReadFile(filepath.Join(w.folder, "refused", name+".why"))
			if err != nil || !strings.Contains(string(why), want) {
				t.Errorf("%s: %q, %v; want %q", name, why, err, want)
			}
		}
		if p := w.payout(e, ref); p.state != InProcess {
			t.Errorf("the payout is %s", p.state)
		}
	})
}
