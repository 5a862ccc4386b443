//go:build plant

package fault

import "os"

// planted is the bug that this run has.
var planted = os.Getenv("ACQUIRER_PLANT")

// Planted reports that the bug of this name was asked for.
func Planted(bug string) bool { return bug == planted }
