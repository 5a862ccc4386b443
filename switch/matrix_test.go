package switching_test

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"acquirer/spec"
	switching "acquirer/switch"
)

// matrix is every row of the dialect's message matrix: what a terminal that is
// certified for it may send.
var matrix = strings.Fields(`
	sign_in sign_off echo
	balance sale void refund preauth preauth_void completion completion_notice completion_void
	offline_sale adjust tip chip_offline_sale
	ecash_load ecash_load_other ecash_cash_load ecash_load_void topup_check topup_cash topup_account
	qr_sale qr_void qr_refund
	reversal script_result
	settlement batch_upload batch_end notice_upload chip_upload
	parameter_download parameter_end status_upload
	capk_query capk_download capk_end aid_query aid_download aid_end
	blacklist_download blacklist_end qps_download qps_end
	tmk_download esign
	instalment points`)

// beyond are rows that are served besides: refused cleanly where no issuer's
// line carries them.
var beyond = strings.Fields(`instalment_void points_query reservation reservation_void ecash_refund purse_load cashier_sign_in`)

// acted are the rows that the stories have acted, from the house's own count
// of what it served.
var acted = struct {
	sync.Mutex
	rows map[string]int
}{rows: map[string]int{}}

// noteActed reads what a story's house has served.
func (s *street) noteActed() {
	families, err := s.metrics.Gather()
	must(s.t, err)
	acted.Lock()
	defer acted.Unlock()
	for _, f := range families {
		if f.GetName() != "acquirer_transactions_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "type" {
					acted.rows[l.GetValue()] += int(m.GetCounter().GetValue())
				}
			}
		}
	}
}

// everyRowIsActed holds the matrix against the handlers, the presence rules
// and the stories: a row without a handler, or that no simulated terminal has
// sent in a story, fails.
func everyRowIsActed(t *testing.T) {
	t.Helper()
	served := map[string]bool{}
	for _, name := range switching.Matrix() {
		served[name] = true
	}
	ruled := map[string]bool{}
	for _, r := range spec.UnionPayPOS.Presence() {
		ruled[r.Message] = true
	}
	acted.Lock()
	defer acted.Unlock()
	for _, name := range append(slices.Clone(matrix), beyond...) {
		switch {
		case !served[name]:
			t.Errorf("%s: no handler", name)
		case acted.rows[name] == 0:
			t.Errorf("%s: no story has a terminal that sends it", name)
		case slices.Contains(matrix, name) && !ruled[name] && name != "parameter_end":
			t.Errorf("%s: no presence rule", name)
		}
		delete(served, name)
	}
	for _, name := range slices.Sorted(maps.Keys(served)) {
		t.Errorf("%s is served and stands in no matrix", name)
	}
}
